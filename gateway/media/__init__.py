"""Media sockets: read a carrier's connection and write merged audio chunks."""
