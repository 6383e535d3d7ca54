locals {
  tunnels = var.vpn == null ? 0 : 2
}

resource "google_compute_ha_vpn_gateway" "gateway" {
  count = var.vpn == null ? 0 : 1

  project = var.project
  region  = var.region
  name    = var.name
  network = google_compute_network.gateway.id

  lifecycle {
    precondition {
      condition     = length(var.vpn_secrets) == 2
      error_message = "The VPN needs two secrets, in TF_VAR_vpn_secrets."
    }

    precondition {
      condition     = length(var.home_ranges) > 0
      error_message = "The VPN leads nowhere without home_ranges."
    }
  }
}

resource "google_compute_external_vpn_gateway" "home" {
  count = var.vpn == null ? 0 : 1

  project = var.project
  name    = "${var.name}-home"

  redundancy_type = (length(var.vpn.router) == 1
  ? "SINGLE_IP_INTERNALLY_REDUNDANT" : "TWO_IPS_REDUNDANCY")

  dynamic "interface" {
    for_each = var.vpn.router

    content {
      id         = interface.key
      ip_address = interface.value
    }
  }
}

resource "google_compute_router" "vpn" {
  count = var.vpn == null ? 0 : 1

  project = var.project
  region  = var.region
  name    = "${var.name}-vpn"
  network = google_compute_network.gateway.id

  bgp {
    asn            = var.vpn.google_asn
    advertise_mode = "CUSTOM"

    advertised_ip_ranges {
      range = var.subnet_range
    }

    # Three are missed before a path is given up.  HA VPN has no BFD, and 20
    # is the least; nginx's own probe sees it sooner.
    keepalive_interval = 20
  }
}

resource "google_compute_vpn_tunnel" "home" {
  count = local.tunnels

  project = var.project
  region  = var.region
  name    = "${var.name}-home-${count.index}"
  router  = google_compute_router.vpn[0].id

  vpn_gateway           = google_compute_ha_vpn_gateway.gateway[0].id
  vpn_gateway_interface = count.index

  peer_external_gateway = (
    google_compute_external_vpn_gateway.home[0].id
  )
  peer_external_gateway_interface = count.index % length(var.vpn.router)

  ike_version   = 2
  shared_secret = var.vpn_secrets[count.index]
}

resource "google_compute_router_interface" "home" {
  count = local.tunnels

  project    = var.project
  region     = var.region
  name       = "${var.name}-home-${count.index}"
  router     = google_compute_router.vpn[0].name
  ip_range   = "${cidrhost(var.vpn.links[count.index], 1)}/30"
  vpn_tunnel = google_compute_vpn_tunnel.home[count.index].name
}

resource "google_compute_router_peer" "home" {
  count = local.tunnels

  project         = var.project
  region          = var.region
  name            = "${var.name}-home-${count.index}"
  router          = google_compute_router.vpn[0].name
  interface       = google_compute_router_interface.home[count.index].name
  ip_address      = cidrhost(var.vpn.links[count.index], 1)
  peer_ip_address = cidrhost(var.vpn.links[count.index], 2)
  peer_asn        = var.vpn.home_asn

  # the second tunnel is a spare: firewalls at home that keep state drop what
  # goes one way and comes back another
  advertised_route_priority = 100 * (count.index + 1)
}
