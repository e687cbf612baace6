"""What each endpoint does: parameters in, a body of api.models out."""
