"""Offline summaries: sentences chosen from the transcript."""
