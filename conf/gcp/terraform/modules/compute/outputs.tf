output "vm" {
  description = "Name of the VM"
  value       = google_compute_instance.gateway.name
}

output "address" {
  description = "The VM's address inside"
  value       = google_compute_address.gateway.address
}
