"""Speech to text on this machine: Whisper with faster-whisper."""
