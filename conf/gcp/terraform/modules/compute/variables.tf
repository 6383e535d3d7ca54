variable "project" {
  description = "Id of the Google Cloud project"
  type        = string
}

variable "region" {
  description = "Region of the subnet"
  type        = string
}

variable "zone" {
  description = "Zone of the VM"
  type        = string
}

variable "name" {
  description = "Name of the VM and its address"
  type        = string
}

variable "labels" {
  description = "Labels of the VM and its disk"
  type        = map(string)
}

variable "service_account" {
  description = "E-mail address of the VM's service account"
  type        = string
}

variable "subnetwork" {
  description = "The subnet"
  type        = string
}

variable "machine_type" {
  description = "Machine type"
  type        = string
}

variable "image" {
  description = "Image of the disk"
  type        = string
}

variable "disk_size" {
  description = "Size of the disk in GB"
  type        = number
}

variable "deletion_protection" {
  description = "Whether the VM refuses to be deleted"
  type        = bool
}

variable "startup_script" {
  description = "Text of the startup script"
  type        = string
}

variable "package" {
  description = "URL of the module's .deb"
  type        = string
}

variable "package_sha256" {
  description = "Its SHA-256, or null"
  type        = string
}

variable "config" {
  description = "URL of nginx.conf, or null"
  type        = string
}

variable "bucket" {
  description = "The bucket that gs:// URLs are in, or null"
  type        = string
}

variable "secrets" {
  description = "Ids of secrets: their files below /etc/nginx/hybrid"
  type        = map(string)
}
