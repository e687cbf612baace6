"""The HTTP API: what is known of calls, over JSON. A process of its own, so that a query never delays audio."""
