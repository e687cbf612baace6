"""Files and secrets for docker-compose.yml."""
