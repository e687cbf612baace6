"""What the commands of `audiotext` do, one module each; `audiotext.cli` parses and picks."""
