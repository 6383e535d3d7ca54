# Values that would hurt; in each run every one of them is refused

mock_provider "google" {}

variables {
  project = "my-project"
  region  = "europe-west3"
  zone    = "europe-west3-b"
  package = "https://example.com/gateway.deb"
}

run "refused_1" {
  command = plan

  variables {
    project        = "My project"
    region         = "europe-west3-b"
    zone           = "europe-west3"
    name           = "Gateway"
    disk_size      = 9
    package        = "http://example.com/gateway.deb"
    package_sha256 = "d41d8cd98f00b204e9800998ecf8427e"
    config         = "/etc/nginx/nginx.conf"
    bucket         = "gs://my-bucket"
    secrets        = { openai = "secrets/../nginx.conf" }
    subnet_range   = "10.80.0.1/28"
    gateway_ranges = ["192.168.1.10/24"]
    gateway_port   = 0
    health_port    = 65536
    home_ranges    = ["0.0.0.0/0"]
    home_ports     = []
    egress_ports   = ["80"]
    vpn            = { router = [], home_asn = 64513 }
    vpn_secrets    = ["only-for-the-first-tunnel"]
  }

  expect_failures = [
    var.project,
    var.region,
    var.zone,
    var.name,
    var.disk_size,
    var.package,
    var.package_sha256,
    var.config,
    var.bucket,
    var.secrets,
    var.subnet_range,
    var.gateway_ranges,
    var.gateway_port,
    var.health_port,
    var.home_ranges,
    var.home_ports,
    var.egress_ports,
    var.vpn,
    var.vpn_secrets,
  ]
}

run "refused_2" {
  command = plan

  variables {
    name           = "a-name-of-21-letters0"
    package        = "gs://my-bucket/gateway.tar"
    secrets        = { openai = "/etc/shadow" }
    subnet_range   = "10.80.0.0/30"
    gateway_ranges = ["example.com"]
    home_ranges    = ["192.168.1.1/24"]
    home_ports     = ["ollama"]
    egress_ports   = ["443", "any"]
    vpn            = { router = ["192.168.1.1"], home_asn = 64513 }
    vpn_secrets    = ["short", "shorter"]
  }

  expect_failures = [
    var.name,
    var.package,
    var.secrets,
    var.subnet_range,
    var.gateway_ranges,
    var.home_ranges,
    var.home_ports,
    var.egress_ports,
    var.vpn,
    var.vpn_secrets,
  ]
}

run "refused_3" {
  command = plan

  variables {
    secrets      = { openai = "secrets/a,b" }
    subnet_range = "8.8.8.0/24"
    home_ranges  = ["8.8.8.0/24"]
    vpn          = { router = ["100.64.0.1"], home_asn = 64513 }
    vpn_secrets  = ["the-same-for-both-tunnels", "the-same-for-both-tunnels"]
  }

  expect_failures = [
    var.secrets,
    var.subnet_range,
    var.home_ranges,
    var.vpn,
    var.vpn_secrets,
  ]
}

run "refused_4" {
  command = plan

  variables {
    secrets      = { "a=b" = "secrets/openai" }
    subnet_range = "10.80.0.0"
    home_ranges  = ["10.0.0.0/7"]
    vpn          = { router = ["203.0.113.7", "203.0.113.7"], home_asn = 64513 }
  }

  expect_failures = [
    var.secrets,
    var.subnet_range,
    var.home_ranges,
    var.vpn,
  ]
}

run "refused_5" {
  command = plan

  variables {
    secrets = { a = "secrets/one", b = "secrets/one" }
    vpn     = { router = ["home.example.com"], home_asn = 64513 }
  }

  expect_failures = [
    var.secrets,
    var.vpn,
  ]
}

run "refused_6" {
  command = plan

  variables {
    vpn = { router = ["203.0.113.7"], home_asn = 15169 }
  }

  expect_failures = [
    var.vpn,
  ]
}

run "refused_7" {
  command = plan

  variables {
    vpn = { router = ["203.0.113.7"], home_asn = 65535 }
  }

  expect_failures = [
    var.vpn,
  ]
}

run "refused_8" {
  command = plan

  variables {
    vpn = { router = ["203.0.113.7"], home_asn = 64514 }
  }

  expect_failures = [
    var.vpn,
  ]
}

run "refused_9" {
  command = plan

  variables {
    vpn = { router = ["203.0.113.7"], home_asn = 64513, google_asn = 16550 }
  }

  expect_failures = [
    var.vpn,
  ]
}

run "refused_10" {
  command = plan

  variables {
    vpn = {
      router   = ["203.0.113.7"]
      home_asn = 64513
      links    = ["169.254.10.0/30"]
    }
  }

  expect_failures = [
    var.vpn,
  ]
}

run "refused_11" {
  command = plan

  variables {
    vpn = {
      router   = ["203.0.113.7"]
      home_asn = 64513
      links    = ["169.254.10.0/30", "169.254.10.0/30"]
    }
  }

  expect_failures = [
    var.vpn,
  ]
}

run "refused_12" {
  command = plan

  variables {
    vpn = {
      router   = ["203.0.113.7"]
      home_asn = 64513
      links    = ["169.254.10.0/30", "169.254.11.0/29"]
    }
  }

  expect_failures = [
    var.vpn,
  ]
}

run "refused_13" {
  command = plan

  variables {
    vpn = {
      router   = ["203.0.113.7"]
      home_asn = 64513
      links    = ["169.254.10.0/30", "169.254.11.1/30"]
    }
  }

  expect_failures = [
    var.vpn,
  ]
}

run "refused_14" {
  command = plan

  variables {
    vpn = {
      router   = ["203.0.113.7"]
      home_asn = 64513
      links    = ["169.254.10.0/30", "169.254.169.252/30"]
    }
  }

  expect_failures = [
    var.vpn,
  ]
}

run "refused_15" {
  command = plan

  variables {
    vpn = {
      router   = ["203.0.113.7"]
      home_asn = 64513
      links    = ["169.254.10.0/30", "10.0.0.0/30"]
    }
  }

  expect_failures = [
    var.vpn,
  ]
}
