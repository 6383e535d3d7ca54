module "security" {
  source = "./modules/security"

  project = var.project
  region  = var.region
  name    = var.name
  labels  = var.labels
  secrets = var.secrets
  bucket  = var.bucket
  vertex  = var.vertex
}

module "network" {
  source = "./modules/network"

  project         = module.security.project
  region          = var.region
  name            = var.name
  service_account = module.security.service_account

  subnet_range   = var.subnet_range
  gateway_ranges = var.gateway_ranges
  gateway_port   = var.gateway_port
  health_port    = var.health_port

  home_ranges  = var.home_ranges
  home_ports   = var.home_ports
  egress_deny  = var.egress_deny
  egress_ports = var.egress_ports
  tailscale    = var.tailscale

  vpn         = var.vpn
  vpn_secrets = var.vpn_secrets
}

module "compute" {
  source = "./modules/compute"

  project         = module.security.project
  region          = var.region
  zone            = var.zone
  name            = var.name
  labels          = var.labels
  service_account = module.security.service_account
  subnetwork      = module.network.subnetwork

  machine_type        = var.machine_type
  image               = var.image
  disk_size           = var.disk_size
  deletion_protection = var.deletion_protection

  startup_script = file("${path.module}/${var.startup_script}")
  package        = var.package
  package_sha256 = var.package_sha256
  config         = var.config
  bucket         = var.bucket
  secrets        = module.security.secrets
}
