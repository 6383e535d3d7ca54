# -- where

variable "project" {
  description = "Id of the Google Cloud project"
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "A project's id, not its name or number."
  }
}

variable "region" {
  description = "Region of the subnet, the VPN and the secrets"
  type        = string

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "A region, such as europe-west3."
  }
}

variable "zone" {
  description = "Zone of the VM, in the region"
  type        = string

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+-[a-z]$", var.zone))
    error_message = "A zone, such as europe-west3-b."
  }
}

variable "name" {
  description = "What the names of all resources begin with"
  type        = string
  default     = "gateway"

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$", var.name))
    error_message = "At most 20 of a-z, 0-9 and -, a letter first."
  }
}

variable "labels" {
  description = "Labels of the VM and the secrets"
  type        = map(string)
  default     = {}
}


# -- the VM

variable "machine_type" {
  description = "Machine type of the VM"
  type        = string
  default     = "e2-micro"
}

variable "image" {
  description = "Image of the VM; the package is built for Debian 12"
  type        = string
  default     = "debian-cloud/debian-12"
}

variable "disk_size" {
  description = "Size of the VM's disk in GB"
  type        = number
  default     = 10

  validation {
    condition     = var.disk_size >= 10 && var.disk_size <= 100
    error_message = "10 (the image's size) to 100 GB."
  }
}

variable "deletion_protection" {
  description = "Whether the VM refuses to be deleted"
  type        = bool
  default     = true
}

variable "startup_script" {
  description = "The startup script, relative to this directory"
  type        = string
  default     = "../startup.sh"
}

variable "package" {
  description = "gs:// or https:// URL of the module's .deb"
  type        = string

  validation {
    condition     = can(regex("^(gs|https)://[^/]+/.+\\.deb$", var.package))
    error_message = "A gs:// or https:// URL of a .deb."
  }
}

variable "package_sha256" {
  description = "SHA-256 of the .deb; null: the transport is trusted"
  type        = string
  default     = null

  validation {
    condition = (var.package_sha256 == null
    || can(regex("^[0-9a-f]{64}$", var.package_sha256)))
    error_message = "64 hexadecimal digits, as sha256sum prints them."
  }
}

variable "config" {
  description = "gs:// or https:// URL of nginx.conf; null: the package's"
  type        = string
  default     = null

  validation {
    condition = (var.config == null
    || can(regex("^(gs|https)://[^/]+/.+$", var.config)))
    error_message = "A gs:// or https:// URL."
  }
}

variable "bucket" {
  description = "The bucket that gs:// URLs are in, which the VM may read"
  type        = string
  default     = null

  validation {
    condition = (var.bucket == null
    || can(regex("^[a-z0-9][a-z0-9._-]+[a-z0-9]$", var.bucket)))
    error_message = "A bucket's name, without gs://."
  }
}

variable "secrets" {
  description = "Secrets, by name: their files below /etc/nginx/hybrid"
  type        = map(string)
  default     = {}

  validation {
    condition = alltrue([for name in keys(var.secrets) :
    can(regex("^[A-Za-z0-9][A-Za-z0-9_-]*$", name))])
    error_message = "Names are of letters, digits, - and _."
  }

  # the startup script takes no others, and its list has "," and "=" in it
  validation {
    condition = alltrue([for path in values(var.secrets) : can(regex(
      "^(clients\\.d|secrets)/[A-Za-z0-9_-][A-Za-z0-9_.-]*$", path
    ))])
    error_message = "Files in clients.d or secrets, such as secrets/openai."
  }

  validation {
    condition = (length(distinct(values(var.secrets)))
    == length(var.secrets))
    error_message = "Two secrets for one file."
  }
}


# -- the network

variable "subnet_range" {
  description = "Range of the VM's subnet; not one that is used at home"
  type        = string
  default     = "10.80.0.0/28"

  validation {
    condition = (can(regex("/([89]|1[0-9]|2[0-9])$", var.subnet_range))
      && try(cidrhost(var.subnet_range, 0)
    == split("/", var.subnet_range)[0], false))
    error_message = "A range from /8 to /29, its address the network's own."
  }

  validation {
    condition = can(regex(
      "^(10\\.|192\\.168\\.|172\\.(1[6-9]|2[0-9]|3[01])\\.)", var.subnet_range
    ))
    error_message = "A private range (RFC 1918)."
  }
}

variable "gateway_ranges" {
  description = "Where the gateway can be reached from; who may is its own job"
  type        = list(string)
  default     = []

  validation {
    condition = alltrue([for range in var.gateway_ranges :
    try(cidrhost(range, 0) == split("/", range)[0], false)])
    error_message = "Ranges whose address is the network's own."
  }
}

variable "gateway_port" {
  description = "Port of the gateway (TLS)"
  type        = number
  default     = 8443

  validation {
    condition     = var.gateway_port > 0 && var.gateway_port < 65536
    error_message = "A port."
  }
}

variable "health_port" {
  description = "Port of /healthz, for a load balancer's health checks"
  type        = number
  default     = 8082

  validation {
    condition     = var.health_port > 0 && var.health_port < 65536
    error_message = "A port."
  }
}

variable "home_ranges" {
  description = "Ranges at home that the gateway reaches by the VPN"
  type        = list(string)
  default     = []

  validation {
    condition = alltrue([for range in var.home_ranges :
    try(cidrhost(range, 0) == split("/", range)[0], false)])
    error_message = "Ranges whose address is the network's own."
  }

  # a wide one would open the ports to all the world
  validation {
    condition = alltrue([for range in var.home_ranges :
      can(regex("/([89]|[12][0-9]|3[0-2])$", range)) && can(regex(
        "^(10\\.|192\\.168\\.|172\\.(1[6-9]|2[0-9]|3[01])\\.)", range
    ))])
    error_message = "Private ranges (RFC 1918), /8 or smaller."
  }
}

variable "home_ports" {
  description = "TCP ports at home: Ollama's, Redis' if it is there"
  type        = list(string)
  default     = ["11434"]

  validation {
    condition = length(var.home_ports) > 0 && alltrue([
    for port in var.home_ports : can(regex("^[0-9]+(-[0-9]+)?$", port))])
    error_message = "Ports, or ranges of them; none would mean all."
  }
}

variable "egress_deny" {
  description = "Whether all is dropped that the rules for egress do not allow"
  type        = bool
  default     = true
}

variable "egress_ports" {
  description = "TCP ports out to anywhere: APIs, clouds, apt's mirrors"
  type        = list(string)
  default     = ["80", "443"]

  # without it neither the package nor a secret could be fetched
  validation {
    condition = contains(var.egress_ports, "443") && alltrue([
    for port in var.egress_ports : can(regex("^[0-9]+(-[0-9]+)?$", port))])
    error_message = "Ports, or ranges of them, and 443 among them."
  }
}

variable "vertex" {
  description = "Whether the VM may use Vertex AI (roles/aiplatform.user)"
  type        = bool
  default     = true
}

variable "tailscale" {
  description = "Whether Tailscale's UDP may leave, and NAT is made to suit it"
  type        = bool
  default     = false
}


# -- the VPN

variable "vpn" {
  description = <<-EOT
    The VPN home, or null: none, Tailscale alone.
    router: public addresses of the router at home, one or two, that are fixed.
    home_asn, google_asn: private AS numbers of the two sides of BGP.
    links: a /30 for each tunnel; Google has its first address, home the second.
  EOT
  type = object({
    router     = list(string)
    home_asn   = number
    google_asn = optional(number, 64514)
    links = optional(list(string),
    ["169.254.10.0/30", "169.254.11.0/30"])
  })
  default = null

  validation {
    condition = try(contains([1, 2], length(var.vpn.router))
      && length(distinct(var.vpn.router)) == length(var.vpn.router)
      && alltrue([for address in var.vpn.router :
        can(cidrhost("${address}/32", 0))
        && !can(regex(join("|", [
          "^(0|10|127|169\\.254|192\\.168)\\.",
          "^172\\.(1[6-9]|2[0-9]|3[01])\\.",
          "^100\\.(6[4-9]|[7-9][0-9]|1[01][0-9]|12[0-7])\\."
    ]), address))]), var.vpn == null)
    error_message = "vpn.router: one or two different public IPv4 addresses."
  }

  validation {
    condition = try(alltrue([
      for asn in [var.vpn.home_asn, var.vpn.google_asn] :
      asn >= 64512 && asn <= 65534 || asn >= 4200000000 && asn <= 4294967294
    ]), var.vpn == null)
    error_message = "AS numbers: 64512-65534 or 4200000000-4294967294."
  }

  validation {
    condition     = try(var.vpn.home_asn != var.vpn.google_asn, true)
    error_message = "The two sides of BGP have different AS numbers."
  }

  # 169.254.169.254 is the metadata server
  validation {
    condition = try(length(distinct(var.vpn.links)) == 2
      && alltrue([for link in var.vpn.links :
        can(regex("^169\\.254\\.[0-9]+\\.[0-9]+/30$", link))
        && cidrhost(link, 0) == split("/", link)[0]
        && !startswith(link, "169.254.169.")
    ]), var.vpn == null)
    error_message = "vpn.links: two /30 of 169.254.0.0/16, not 169.254.169.x."
  }
}

variable "vpn_secrets" {
  description = "Pre-shared keys of the two tunnels, in TF_VAR_vpn_secrets"
  type        = list(string)
  default     = []
  sensitive   = true
  nullable    = false

  validation {
    condition = (length(var.vpn_secrets) == 0
      || length(distinct(var.vpn_secrets)) == 2
      && length(var.vpn_secrets) == 2
    && alltrue([for secret in var.vpn_secrets : length(secret) >= 24]))
    error_message = "Two different secrets of at least 24 characters."
  }
}
