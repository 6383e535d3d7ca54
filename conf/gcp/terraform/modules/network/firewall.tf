# All is dropped but what a rule allows.  What is dropped is in the log: a rule
# that is missing looks like a machine that is dead.
#
# The metadata server (169.254.169.254: DHCP, DNS, NTP, tokens of the service
# account) is open to every VM, whatever the rules say.


# -- in

resource "google_compute_firewall" "deny_ingress" {
  project       = var.project
  name          = "${var.name}-deny-ingress"
  network       = google_compute_network.gateway.id
  direction     = "INGRESS"
  priority      = 65534
  source_ranges = ["0.0.0.0/0"]

  deny {
    protocol = "all"
  }

  log_config {
    metadata = "EXCLUDE_ALL_METADATA"
  }
}

# 35.235.240.0/20 is IAP, which asks who it is before it lets him through
resource "google_compute_firewall" "ssh" {
  project                 = var.project
  name                    = "${var.name}-ssh"
  network                 = google_compute_network.gateway.id
  direction               = "INGRESS"
  source_ranges           = ["35.235.240.0/20"]
  target_service_accounts = [var.service_account]

  allow {
    protocol = "tcp"
    ports    = ["22"]
  }
}

# Google's health checks, and what its load balancers pass on
resource "google_compute_firewall" "health" {
  project                 = var.project
  name                    = "${var.name}-health"
  network                 = google_compute_network.gateway.id
  direction               = "INGRESS"
  source_ranges           = ["35.191.0.0/16", "130.211.0.0/22"]
  target_service_accounts = [var.service_account]

  allow {
    protocol = "tcp"
    ports    = [var.gateway_port, var.health_port]
  }
}

resource "google_compute_firewall" "gateway" {
  count = length(var.gateway_ranges) == 0 ? 0 : 1

  project                 = var.project
  name                    = "${var.name}-gateway"
  network                 = google_compute_network.gateway.id
  direction               = "INGRESS"
  source_ranges           = var.gateway_ranges
  target_service_accounts = [var.service_account]

  allow {
    protocol = "tcp"
    ports    = [var.gateway_port]
  }
}


# -- out

resource "google_compute_firewall" "deny_egress" {
  count = var.egress_deny ? 1 : 0

  project            = var.project
  name               = "${var.name}-deny-egress"
  network            = google_compute_network.gateway.id
  direction          = "EGRESS"
  priority           = 65534
  destination_ranges = ["0.0.0.0/0"]

  deny {
    protocol = "all"
  }

  log_config {
    metadata = "EXCLUDE_ALL_METADATA"
  }
}

# by port: the addresses of mirrors, clouds and Tailscale's relays change
resource "google_compute_firewall" "internet" {
  project                 = var.project
  name                    = "${var.name}-internet"
  network                 = google_compute_network.gateway.id
  direction               = "EGRESS"
  destination_ranges      = ["0.0.0.0/0"]
  target_service_accounts = [var.service_account]

  allow {
    protocol = "tcp"
    ports    = var.egress_ports
  }
}

# to peers on their usual port, and STUN; else it goes through a relay (443)
resource "google_compute_firewall" "tailscale" {
  count = var.tailscale ? 1 : 0

  project                 = var.project
  name                    = "${var.name}-tailscale"
  network                 = google_compute_network.gateway.id
  direction               = "EGRESS"
  destination_ranges      = ["0.0.0.0/0"]
  target_service_accounts = [var.service_account]

  allow {
    protocol = "udp"
    ports    = ["3478", "41641"]
  }
}

# before "internet", whose ports would reach the router's page at home, too
resource "google_compute_firewall" "deny_home" {
  count = var.egress_deny && length(var.home_ranges) > 0 ? 1 : 0

  project            = var.project
  name               = "${var.name}-deny-home"
  network            = google_compute_network.gateway.id
  direction          = "EGRESS"
  priority           = 900
  destination_ranges = var.home_ranges

  deny {
    protocol = "all"
  }

  log_config {
    metadata = "EXCLUDE_ALL_METADATA"
  }
}

resource "google_compute_firewall" "home" {
  count = length(var.home_ranges) == 0 ? 0 : 1

  project                 = var.project
  name                    = "${var.name}-home"
  network                 = google_compute_network.gateway.id
  direction               = "EGRESS"
  priority                = 800
  destination_ranges      = var.home_ranges
  target_service_accounts = [var.service_account]

  allow {
    protocol = "tcp"
    ports    = var.home_ports
  }

  # ping
  allow {
    protocol = "icmp"
  }
}
