variable "project" {
  description = "Id of the Google Cloud project"
  type        = string
}

variable "region" {
  description = "Region of the subnet and the VPN"
  type        = string
}

variable "name" {
  description = "What the names of all resources begin with"
  type        = string
}

variable "service_account" {
  description = "Of the VMs that the rules which allow are for"
  type        = string
}

variable "subnet_range" {
  description = "Range of the subnet"
  type        = string
}

variable "gateway_ranges" {
  description = "Where the gateway can be reached from"
  type        = list(string)
}

variable "gateway_port" {
  description = "Port of the gateway"
  type        = number
}

variable "health_port" {
  description = "Port of the health check"
  type        = number
}

variable "home_ranges" {
  description = "Ranges at home"
  type        = list(string)
}

variable "home_ports" {
  description = "TCP ports at home"
  type        = list(string)
}

variable "egress_deny" {
  description = "Whether all else that leaves is dropped"
  type        = bool
}

variable "egress_ports" {
  description = "TCP ports out to anywhere"
  type        = list(string)
}

variable "tailscale" {
  description = "Whether Tailscale's UDP may leave"
  type        = bool
}

variable "vpn" {
  description = "The VPN home, or null"
  type = object({
    router     = list(string)
    home_asn   = number
    google_asn = number
    links      = list(string)
  })
}

variable "vpn_secrets" {
  description = "Pre-shared keys of the two tunnels"
  type        = list(string)
  sensitive   = true
}
