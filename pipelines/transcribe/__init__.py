"""Consumer group `transcribe`: the transcript of a recording."""
