mock_provider "google" {}

variables {
  project = "my-project"
  region  = "europe-west3"
  name    = "gateway"
  labels  = {}
  secrets = { openai = "secrets/openai", lightrag = "clients.d/l.conf" }
  bucket  = null
  vertex  = true
}

run "secrets" {
  command = plan

  module {
    source = "./modules/security"
  }

  assert {
    condition = ({
      for name, member in google_secret_manager_secret_iam_member.gateway :
      name => "${member.role} ${member.secret_id}"
      } == {
      openai   = "roles/secretmanager.secretAccessor gateway-openai"
      lightrag = "roles/secretmanager.secretAccessor gateway-lightrag"
    })
    error_message = "each secret is open to the VM, and no other is"
  }

  assert {
    condition = (keys(google_project_iam_member.gateway) == [
      "roles/aiplatform.user",
      "roles/logging.logWriter",
      "roles/monitoring.metricWriter",
    ])
    error_message = "three roles in the project"
  }

  assert {
    condition     = length(google_storage_bucket_iam_member.gateway) == 0
    error_message = "no bucket"
  }
}

run "bucket" {
  command = plan

  module {
    source = "./modules/security"
  }

  variables {
    bucket = "my-bucket"
    vertex = false
  }

  assert {
    condition = (
      google_storage_bucket_iam_member.gateway[0].bucket == "my-bucket"
      && google_storage_bucket_iam_member.gateway[0].role
      == "roles/storage.objectViewer"
    )
    error_message = "that bucket is read"
  }

  assert {
    condition = (keys(google_project_iam_member.gateway) == [
      "roles/logging.logWriter",
      "roles/monitoring.metricWriter",
    ])
    error_message = "without Vertex AI no role there"
  }
}
