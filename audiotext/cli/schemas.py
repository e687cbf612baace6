"""`audiotext schemas`: JSON Schemas of everything on the log and in the store, as files."""

import argparse
from pathlib import Path

from core.errors import UserError
from schemas.json_schema import files


def run(args: argparse.Namespace) -> int:
    """Writes every schema into the folder. Raises UserError where that cannot be."""
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
