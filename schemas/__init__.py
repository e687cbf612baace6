"""What travels on the log: event models, topic names, the binary media record. No I/O happens here."""
