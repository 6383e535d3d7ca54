# terraform test (1.7 or newer), without an account: nothing is asked of Google

mock_provider "google" {
  mock_resource "google_service_account" {
    defaults = {
      email  = "gateway-nginx@my-project.iam.gserviceaccount.com"
      member = "serviceAccount:gateway-nginx@my-project.iam.gserviceaccount.com"
    }
  }
}

variables {
  project = "my-project"
  region  = "europe-west3"
  zone    = "europe-west3-b"
  package = "https://example.com/gateway.deb"
}

run "smallest" {
  command = plan

  assert {
    condition     = output.vm == "gateway" && output.vpn == null
    error_message = "a VM, and no VPN"
  }

  assert {
    condition     = length(output.secrets) == 0
    error_message = "no secrets"
  }

  assert {
    condition = (output.ssh == join(" ", ["gcloud compute ssh gateway",
      "--tunnel-through-iap --zone europe-west3-b --project my-project"
    ]))
    error_message = "how to log in"
  }
}

run "everything" {
  command = plan

  variables {
    name           = "gw"
    package        = "gs://my-bucket/gateway.deb"
    config         = "gs://my-bucket/nginx.conf"
    bucket         = "my-bucket"
    labels         = { use = "inference" }
    gateway_ranges = ["192.168.1.0/24", "10.80.0.0/28"]
    home_ranges    = ["192.168.1.0/24"]
    home_ports     = ["11434", "6379"]
    tailscale      = true

    secrets = {
      lightrag = "clients.d/lightrag.conf"
      openai   = "secrets/openai"
    }

    vpn         = { router = ["203.0.113.7"], home_asn = 64513 }
    vpn_secrets = ["only-for-the-first-tunnel", "only-for-the-second-tunnel"]
  }

  assert {
    condition = (output.secrets == {
      gw-lightrag = "clients.d/lightrag.conf"
      gw-openai   = "secrets/openai"
    })
    error_message = "secrets by their ids"
  }

  assert {
    condition = ([for tunnel in output.vpn : tunnel.bgp_home]
    == ["169.254.10.2", "169.254.11.2"])
    error_message = "home has the second address of each link"
  }
}

run "apply" {
  variables {
    home_ranges = ["192.168.1.0/24"]
    vpn = {
      router   = ["203.0.113.7", "198.51.100.7"]
      home_asn = 4200000000
    }
    vpn_secrets = ["only-for-the-first-tunnel", "only-for-the-second-tunnel"]
  }

  assert {
    condition = ([for tunnel in output.vpn : tunnel.home]
    == ["203.0.113.7", "198.51.100.7"])
    error_message = "a tunnel to each of the router's addresses"
  }
}
