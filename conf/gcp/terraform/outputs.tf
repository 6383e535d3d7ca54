output "vm" {
  description = "Name of the VM"
  value       = module.compute.vm
}

output "address" {
  description = "The VM's address inside"
  value       = module.compute.address
}

output "ssh" {
  description = "How to log in, by IAP"
  value = join(" ", [
    "gcloud compute ssh", module.compute.vm, "--tunnel-through-iap",
    "--zone", var.zone, "--project", var.project,
  ])
}

output "service_account" {
  description = "Who the VM is, for further roles"
  value       = module.security.service_account
}

output "secrets" {
  description = "Ids of the secrets that need a value, and their files"
  value       = module.security.secrets
}

output "vpn" {
  description = "What to enter at home, a tunnel each; null without the VPN"
  value       = module.network.vpn
}
