mock_provider "google" {}

variables {
  project             = "my-project"
  region              = "europe-west3"
  zone                = "europe-west3-b"
  name                = "gateway"
  labels              = {}
  service_account     = "gateway-nginx@my-project.iam.gserviceaccount.com"
  subnetwork          = "projects/p/regions/europe-west3/subnetworks/gateway"
  machine_type        = "e2-micro"
  image               = "debian-cloud/debian-12"
  disk_size           = 10
  deletion_protection = true
  startup_script      = "exit"
  package             = "gs://my-bucket/gateway.deb"
  package_sha256      = null
  config              = null
  bucket              = "my-bucket"

  secrets = {
    gateway-lightrag = "clients.d/lightrag.conf"
    gateway-openai   = "secrets/openai"
  }
}

run "vm" {
  command = plan

  module {
    source = "./modules/compute"
  }

  assert {
    condition = (google_compute_instance.gateway.metadata == tomap({
      enable-oslogin         = "TRUE"
      block-project-ssh-keys = "TRUE"
      serial-port-enable     = "FALSE"
      startup-script         = "exit"
      hybrid-package         = "gs://my-bucket/gateway.deb"
      hybrid-secrets = join(",", [
        "gateway-lightrag=clients.d/lightrag.conf",
        "gateway-openai=secrets/openai"
      ])
    }))
    error_message = "what the startup script reads, and nothing empty"
  }

  assert {
    condition = length(
      google_compute_instance.gateway.network_interface[0].access_config
    ) == 0
    error_message = "no address outside"
  }
}

run "config" {
  command = plan

  module {
    source = "./modules/compute"
  }

  variables {
    config         = "gs://my-bucket/nginx.conf"
    package_sha256 = sha256("package")
    secrets        = {}
  }

  assert {
    condition = ({
      for key, value in google_compute_instance.gateway.metadata :
      key => value if startswith(key, "hybrid-")
      } == {
      hybrid-package        = "gs://my-bucket/gateway.deb"
      hybrid-package-sha256 = sha256("package")
      hybrid-config         = "gs://my-bucket/nginx.conf"
    })
    error_message = "a hash, a configuration and no secrets"
  }
}

run "no_bucket" {
  command = plan

  module {
    source = "./modules/compute"
  }

  variables {
    bucket = null
  }

  expect_failures = [google_compute_instance.gateway]
}

run "another_bucket" {
  command = plan

  module {
    source = "./modules/compute"
  }

  variables {
    config = "gs://my-bucket-2/nginx.conf"
  }

  expect_failures = [google_compute_instance.gateway]
}

run "another_region" {
  command = plan

  module {
    source = "./modules/compute"
  }

  variables {
    zone = "europe-west30-b"
  }

  expect_failures = [google_compute_instance.gateway]
}
