"""Paid services as real HTTP servers: their documented rules, limits, errors, delays and forgotten webhooks."""
