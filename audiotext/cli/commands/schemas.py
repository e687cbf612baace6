"""Command `audiotext schemas DIR`: writes the JSON Schemas of the log and of the object storage."""

import argparse
from pathlib import Path

from audiotext.cli.arguments import Parser
from core.errors import UserError

HELP = "write the JSON Schemas of all events and stored documents"


def add_arguments(parser: Parser) -> None:
    """Declares the arguments."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="target folder; it is created if it is missing")


def run(args: argparse.Namespace) -> int:
    """Writes every schema into the folder. Raises UserError if it cannot be written."""
    from schemas.json_schema import files

    folder: Path = args.folder
    written = files()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in written.items():
            (folder / name).write_text(text)
    except OSError as error:
        raise UserError(
            f"{error.filename or folder} cannot be written: {error.strerror}; choose another folder"
        ) from None
    print(f"{len(written)} schemas in {folder}")
    return 0
