"""Authorization of media streams and webhooks."""
