"""Consumer group `erase`: deletes everything about a call."""
