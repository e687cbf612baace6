"""Text helpers: sentences."""
