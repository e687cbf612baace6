"""Paid services as real HTTP servers, with their documented rules, limits, errors, delays and missing webhooks."""
