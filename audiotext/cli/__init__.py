"""What the commands of `audiotext` do, one module each; `audiotext.cli.main` parses and picks."""
