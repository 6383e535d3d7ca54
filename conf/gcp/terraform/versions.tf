terraform {
  required_version = ">= 1.5"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 6.0"
    }
  }

  # The state holds the VPN's two secrets.  In a bucket of its own, which is
  # versioned and which only you can read, it is safe from a lost disk, too:
  #
  # backend "gcs" {
  #   bucket = "my-project-terraform"
  #   prefix = "gateway"
  # }
}

provider "google" {
  project = var.project
  region  = var.region
}
