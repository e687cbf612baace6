"""Speech to text by OpenAI and compatible servers."""
