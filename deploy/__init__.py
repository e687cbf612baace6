"""Deployment: image, Compose, Kubernetes, dashboards and alerts."""
