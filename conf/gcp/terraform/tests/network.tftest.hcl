mock_provider "google" {}

variables {
  project         = "my-project"
  region          = "europe-west3"
  name            = "gateway"
  service_account = "gateway-nginx@my-project.iam.gserviceaccount.com"
  subnet_range    = "10.80.0.0/28"
  gateway_ranges  = []
  gateway_port    = 8443
  health_port     = 8082
  home_ranges     = []
  home_ports      = ["11434"]
  egress_deny     = true
  egress_ports    = ["80", "443"]
  tailscale       = false
  vpn             = null
  vpn_secrets     = []
}

run "closed" {
  command = plan

  module {
    source = "./modules/network"
  }

  assert {
    condition     = length(google_compute_firewall.gateway) == 0
    error_message = "nobody gets in by address"
  }

  assert {
    condition = (google_compute_firewall.ssh.source_ranges
    == toset(["35.235.240.0/20"]))
    error_message = "SSH is by IAP alone"
  }

  assert {
    condition = (google_compute_firewall.deny_ingress.priority == 65534
    && google_compute_firewall.deny_egress[0].priority == 65534)
    error_message = "what is dropped is dropped last"
  }

  assert {
    condition = (length(google_compute_firewall.home) == 0
    && length(google_compute_firewall.tailscale) == 0)
    error_message = "nothing leaves but by egress_ports"
  }

  assert {
    condition = (length(google_compute_ha_vpn_gateway.gateway) == 0
      && length(google_compute_router.vpn) == 0
    && length(google_compute_vpn_tunnel.home) == 0)
    error_message = "no VPN"
  }
}

run "open" {
  command = plan

  module {
    source = "./modules/network"
  }

  variables {
    gateway_ranges = ["10.80.0.0/28"]
    home_ranges    = ["192.168.1.0/24"]
    egress_deny    = false
    tailscale      = true
  }

  assert {
    condition = (google_compute_firewall.gateway[0].source_ranges
    == toset(["10.80.0.0/28"]))
    error_message = "the port is open there"
  }

  assert {
    condition = (google_compute_firewall.home[0].destination_ranges
    == toset(["192.168.1.0/24"]))
    error_message = "home is reached"
  }

  assert {
    condition     = length(google_compute_firewall.deny_egress) == 0
    error_message = "all may leave"
  }

  assert {
    condition = (
      google_compute_router_nat.nat.enable_endpoint_independent_mapping
    )
    error_message = "NAT suits Tailscale"
  }
}

run "one_router" {
  command = plan

  module {
    source = "./modules/network"
  }

  variables {
    home_ranges = ["192.168.1.0/24"]
    vpn_secrets = ["only-for-the-first-tunnel", "only-for-the-second-tunnel"]

    vpn = {
      router     = ["203.0.113.7"]
      home_asn   = 64513
      google_asn = 64514
      links      = ["169.254.10.0/30", "169.254.11.0/30"]
    }
  }

  assert {
    condition = (
      google_compute_firewall.home[0].priority
      < google_compute_firewall.deny_home[0].priority
      && google_compute_firewall.deny_home[0].priority < 1000
      && google_compute_firewall.deny_home[0].destination_ranges
      == google_compute_firewall.home[0].destination_ranges
    )
    error_message = "home has no open port but home_ports"
  }

  assert {
    condition = (google_compute_external_vpn_gateway.home[0].redundancy_type
    == "SINGLE_IP_INTERNALLY_REDUNDANT")
    error_message = "one address at home"
  }

  assert {
    condition = ([for tunnel in google_compute_vpn_tunnel.home : [
      tunnel.vpn_gateway_interface, tunnel.peer_external_gateway_interface
    ]] == [[0, 0], [1, 0]])
    error_message = "two tunnels to it"
  }

  assert {
    condition = ([for interface in google_compute_router_interface.home :
    interface.ip_range] == ["169.254.10.1/30", "169.254.11.1/30"])
    error_message = "Google has the first address of each link"
  }

  assert {
    condition = ([for peer in google_compute_router_peer.home : [
      peer.peer_ip_address, peer.peer_asn, peer.advertised_route_priority
    ]] == [["169.254.10.2", 64513, 100], ["169.254.11.2", 64513, 200]])
    error_message = "home is the peer, and the second link a spare"
  }
}

run "two_routers" {
  command = plan

  module {
    source = "./modules/network"
  }

  variables {
    home_ranges = ["192.168.1.0/24"]
    vpn_secrets = ["only-for-the-first-tunnel", "only-for-the-second-tunnel"]

    vpn = {
      router     = ["203.0.113.7", "198.51.100.7"]
      home_asn   = 64513
      google_asn = 64514
      links      = ["169.254.10.0/30", "169.254.11.0/30"]
    }
  }

  assert {
    condition = (google_compute_external_vpn_gateway.home[0].redundancy_type
    == "TWO_IPS_REDUNDANCY")
    error_message = "two addresses at home"
  }

  assert {
    condition = ([for tunnel in google_compute_vpn_tunnel.home : [
      tunnel.vpn_gateway_interface, tunnel.peer_external_gateway_interface
    ]] == [[0, 0], [1, 1]])
    error_message = "a tunnel to each"
  }
}

run "no_secrets" {
  command = plan

  module {
    source = "./modules/network"
  }

  variables {
    home_ranges = ["192.168.1.0/24"]

    vpn = {
      router     = ["203.0.113.7"]
      home_asn   = 64513
      google_asn = 64514
      links      = ["169.254.10.0/30", "169.254.11.0/30"]
    }
  }

  expect_failures = [google_compute_ha_vpn_gateway.gateway]
}

run "leads_nowhere" {
  command = plan

  module {
    source = "./modules/network"
  }

  variables {
    vpn_secrets = ["only-for-the-first-tunnel", "only-for-the-second-tunnel"]

    vpn = {
      router     = ["203.0.113.7"]
      home_asn   = 64513
      google_asn = 64514
      links      = ["169.254.10.0/30", "169.254.11.0/30"]
    }
  }

  expect_failures = [google_compute_ha_vpn_gateway.gateway]
}

run "home_within_subnet" {
  command = plan

  module {
    source = "./modules/network"
  }

  variables {
    home_ranges = ["192.168.1.0/24", "10.80.0.8/30"]
  }

  expect_failures = [google_compute_subnetwork.gateway]
}

run "subnet_within_home" {
  command = plan

  module {
    source = "./modules/network"
  }

  variables {
    home_ranges = ["10.0.0.0/8"]
  }

  expect_failures = [google_compute_subnetwork.gateway]
}
