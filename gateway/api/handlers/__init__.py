"""What each endpoint does: parameters in, a body of gateway.api.models out."""
