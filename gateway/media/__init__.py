"""Media sockets: from a carrier's connection to merged audio chunks."""
