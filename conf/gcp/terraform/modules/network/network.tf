resource "google_compute_network" "gateway" {
  project                 = var.project
  name                    = var.name
  auto_create_subnetworks = false
  routing_mode            = "REGIONAL"
}

resource "google_compute_subnetwork" "gateway" {
  project                  = var.project
  region                   = var.region
  name                     = var.name
  network                  = google_compute_network.gateway.id
  ip_cidr_range            = var.subnet_range
  private_ip_google_access = true

  lifecycle {
    # two ranges overlap if they are one at the length of the wider
    precondition {
      condition = alltrue([
        for range in var.home_ranges : cidrhost(join("/", [
          split("/", range)[0],
          min(split("/", range)[1], split("/", var.subnet_range)[1]),
          ]), 0) != cidrhost(join("/", [
          split("/", var.subnet_range)[0],
          min(split("/", range)[1], split("/", var.subnet_range)[1]),
        ]), 0)
      ])
      error_message = "subnet_range overlaps with one of home_ranges."
    }
  }
}


# -- the way out of a VM that has no address outside

resource "google_compute_router" "nat" {
  project = var.project
  region  = var.region
  name    = "${var.name}-nat"
  network = google_compute_network.gateway.id
}

resource "google_compute_router_nat" "nat" {
  project = var.project
  region  = var.region
  name    = "${var.name}-nat"
  router  = google_compute_router.nat.name

  nat_ip_allocate_option             = "AUTO_ONLY"
  source_subnetwork_ip_ranges_to_nat = "LIST_OF_SUBNETWORKS"

  subnetwork {
    name                    = google_compute_subnetwork.gateway.id
    source_ip_ranges_to_nat = ["ALL_IP_RANGES"]
  }

  min_ports_per_vm = 1024

  # one public port for all peers, or Tailscale finds no direct path
  enable_endpoint_independent_mapping = var.tailscale
  enable_dynamic_port_allocation      = false

  log_config {
    enable = true
    filter = "ERRORS_ONLY"
  }
}
