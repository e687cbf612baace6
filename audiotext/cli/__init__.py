"""The command line: `audiotext.cli.main` parses it, `audiotext.cli.commands` holds one module per command."""
