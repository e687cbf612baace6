"""Deployment files, and the scripts that generate them."""
