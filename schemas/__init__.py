"""Contents of the log: event models, topic names, and the binary media record. No I/O happens here."""
