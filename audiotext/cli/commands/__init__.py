"""The commands of `audiotext`: one module per command, whose name is the command's name.

`audiotext.cli.main` finds the modules in this folder. Each has

- `HELP`: one line for `audiotext --help`, without a full stop,
- `add_arguments(parser)`: declares the arguments, or the subcommands with theirs,
- `run(args)`: runs the command and returns the exit code. A command with subcommands has one function for each instead.

The help page imports all modules. Therefore a module imports only light modules at its top, and each function imports
the libraries that it needs.
"""
