"""Grafana's dashboards. `python -m deploy.grafana` writes their JSON, which is what Grafana is given."""
