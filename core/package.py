"""Name and version of the distribution, and the commands that install its parts."""

NAME = "audiotext-live"
VERSION = "0.1.0"  # pyproject.toml reads it

INSTALL_MODELS = "audiotext models install"


def install_extra(extra: str) -> str:
    """Returns the command that installs the packages of an extra."""
    return f"pip install '{NAME}[{extra}]'"
