"""Setup for docker-compose.yml."""
