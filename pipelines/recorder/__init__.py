"""The recorder: from `call.media` to WAV files in S3. Its state is a function of the log, its files a cache of it."""
