"""Scripts for the container image."""
