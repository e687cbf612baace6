"""Writes records to the log and buffers them while the log is slow or unreachable."""
