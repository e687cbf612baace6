"""The recorder: turns `call.media` into WAV files in S3. Its state is a function of the log; its files are a cache."""
