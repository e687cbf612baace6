"""Speech to text by Soniox."""
