"""Consumer group `embed`: vectors of a call's turns."""
