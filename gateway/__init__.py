"""The media gateway: accepts carriers' streams and writes them to the log."""
