variable "project" {
  description = "Id of the Google Cloud project"
  type        = string
}

variable "region" {
  description = "Where the secrets are kept"
  type        = string
}

variable "name" {
  description = "What the names of all resources begin with"
  type        = string
}

variable "vertex" {
  description = "Whether the VM may use Vertex AI"
  type        = bool
}

variable "labels" {
  description = "Labels of the secrets"
  type        = map(string)
}

variable "secrets" {
  description = "Secrets, by name: their files below /etc/nginx/hybrid"
  type        = map(string)
}

variable "bucket" {
  description = "A bucket the VM may read, or null"
  type        = string
}
