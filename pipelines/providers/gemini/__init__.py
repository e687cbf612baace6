"""Google's Gemini: summaries and embeddings, over the Gemini API (https://ai.google.dev/api)."""
