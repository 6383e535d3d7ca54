locals {
  metadata = {
    enable-oslogin         = "TRUE"
    block-project-ssh-keys = "TRUE"
    serial-port-enable     = "FALSE"

    # not metadata_startup_script: a change of that replaces the VM
    startup-script = var.startup_script

    hybrid-package        = var.package
    hybrid-package-sha256 = var.package_sha256
    hybrid-config         = var.config
    hybrid-secrets = join(",", [
      for id, path in var.secrets : "${id}=${path}"
    ])
  }

  downloads = compact([var.package, var.config])
}

# home and callers know it, so it outlives the VM
resource "google_compute_address" "gateway" {
  project      = var.project
  region       = var.region
  name         = var.name
  address_type = "INTERNAL"
  subnetwork   = var.subnetwork
}

resource "google_compute_instance" "gateway" {
  project      = var.project
  zone         = var.zone
  name         = var.name
  labels       = var.labels
  machine_type = var.machine_type

  deletion_protection       = var.deletion_protection
  allow_stopping_for_update = true

  boot_disk {
    initialize_params {
      image  = var.image
      type   = "pd-standard"
      size   = var.disk_size
      labels = var.labels
    }
  }

  # no access_config: no address outside
  network_interface {
    subnetwork = var.subnetwork
    network_ip = google_compute_address.gateway.address
  }

  # its roles say what it may, which scopes could only narrow
  service_account {
    email  = var.service_account
    scopes = ["cloud-platform"]
  }

  shielded_instance_config {
    enable_secure_boot          = true
    enable_vtpm                 = true
    enable_integrity_monitoring = true
  }

  scheduling {
    automatic_restart   = true
    on_host_maintenance = "MIGRATE"
    provisioning_model  = "STANDARD"
  }

  metadata = {
    for key, value in local.metadata :
    key => value if value != null && value != ""
  }

  lifecycle {
    # a change would replace the VM, with what Redis keeps on its disk
    ignore_changes = [boot_disk[0].initialize_params]

    precondition {
      condition     = startswith(var.zone, "${var.region}-")
      error_message = "The zone is not in the region."
    }

    precondition {
      condition = alltrue([
        for url in local.downloads : !startswith(url, "gs://")
        || startswith(url, "gs://${coalesce(var.bucket, "/")}/")
      ])
      error_message = "A gs:// URL is not in the bucket that the VM may read."
    }
  }
}
