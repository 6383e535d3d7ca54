output "subnetwork" {
  description = "The subnet, once a VM in it has its way out"
  value       = google_compute_subnetwork.gateway.id

  # at its first boot it fetches packages
  depends_on = [
    google_compute_router_nat.nat,
    google_compute_firewall.internet,
    google_compute_firewall.deny_ingress,
  ]
}

output "vpn" {
  description = "The two ends of each tunnel, or null"
  value = var.vpn == null ? null : [
    for i in range(2) : {
      google = one([
        for interface in
        google_compute_ha_vpn_gateway.gateway[0].vpn_interfaces :
        interface.ip_address if interface.id == i
      ])
      home            = var.vpn.router[i % length(var.vpn.router)]
      bgp_google      = google_compute_router_peer.home[i].ip_address
      bgp_home        = google_compute_router_peer.home[i].peer_ip_address
      bgp_google_asn  = var.vpn.google_asn
      bgp_home_asn    = var.vpn.home_asn
      bgp_home_subnet = var.vpn.links[i]
    }
  ]
}
