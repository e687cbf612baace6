"""Audio codecs and files. Independent of calls."""
