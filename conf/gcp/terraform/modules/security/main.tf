locals {
  apis = [
    "aiplatform.googleapis.com",
    "cloudresourcemanager.googleapis.com",
    "compute.googleapis.com",
    "iam.googleapis.com",
    "iap.googleapis.com",
    "logging.googleapis.com",
    "monitoring.googleapis.com",
    "oslogin.googleapis.com",
    "secretmanager.googleapis.com",
    "storage.googleapis.com",
  ]

  roles = concat(var.vertex ? ["roles/aiplatform.user"] : [], [
    "roles/logging.logWriter",
    "roles/monitoring.metricWriter",
  ])
}

resource "google_project_service" "api" {
  for_each = toset(local.apis)

  project = var.project
  service = each.value

  # others in the project may use it, too
  disable_on_destroy = false
}


# -- who the VM is

resource "google_service_account" "gateway" {
  project      = var.project
  account_id   = "${var.name}-nginx"
  display_name = "The VM ${var.name}"

  depends_on = [google_project_service.api]
}

resource "google_project_iam_member" "gateway" {
  for_each = toset(local.roles)

  project = var.project
  role    = each.value
  member  = google_service_account.gateway.member
}

resource "google_storage_bucket_iam_member" "gateway" {
  count = var.bucket == null ? 0 : 1

  bucket = var.bucket
  role   = "roles/storage.objectViewer"
  member = google_service_account.gateway.member
}


# -- secrets, without their values, which would be in the state as well

resource "google_secret_manager_secret" "gateway" {
  for_each = var.secrets

  project   = var.project
  secret_id = "${var.name}-${each.key}"
  labels    = var.labels

  replication {
    user_managed {
      replicas {
        location = var.region
      }
    }
  }

  depends_on = [google_project_service.api]
}

resource "google_secret_manager_secret_iam_member" "gateway" {
  for_each = google_secret_manager_secret.gateway

  project   = var.project
  secret_id = each.value.secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.gateway.member
}
