"""`audiotext doctor`: looks at each configured system and says in one line what it found and what to do."""
