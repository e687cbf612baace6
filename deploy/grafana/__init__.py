"""Grafana dashboards. `python -m deploy.grafana` writes the JSON files that Grafana loads."""
