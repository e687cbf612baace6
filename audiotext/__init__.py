"""The top layer: command line, single-machine stack, embedded servers, doctor and demo. Nothing imports it."""
