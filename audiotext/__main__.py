"""Runs the command line as `python -m audiotext`."""

from audiotext.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
