"""Providers: the engines for speech to text, summaries and embeddings, one folder each."""
