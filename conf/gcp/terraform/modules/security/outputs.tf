# The VM is not made before it may do what its startup script does, and
# nothing before its API is there.

output "project" {
  description = "The project, once its APIs are enabled"
  value       = var.project
  depends_on  = [google_project_service.api]
}

output "service_account" {
  description = "The VM's service account, once it has its roles"
  value       = google_service_account.gateway.email

  depends_on = [
    google_project_iam_member.gateway,
    google_storage_bucket_iam_member.gateway,
  ]
}

output "secrets" {
  description = "Ids of the secrets, once the VM may read them: their files"
  value = {
    for name, path in var.secrets :
    google_secret_manager_secret.gateway[name].secret_id => path
  }
  depends_on = [google_secret_manager_secret_iam_member.gateway]
}
