"""Audio codecs and files. Knows nothing of calls."""
