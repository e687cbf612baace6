"""Google Gemini: summaries and embeddings with the Gemini API (https://ai.google.dev/api)."""
