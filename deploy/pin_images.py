"""Pins the images in Dockerfile and docker-compose.yml to the digests that their tags have now.

Run `python deploy/pin_images.py` on a machine with Docker and access to the registries, and review the difference. It
uses only the standard library.
"""

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_FILES = ("Dockerfile", "docker-compose.yml")
_IMAGE = re.compile(r"^(?P<before>FROM +|\s+image: +)(?P<image>[^\s@]+:[^\s@]+)(?:@sha256:[0-9a-f]{64})?", re.MULTILINE)
_OWN = "audiotext:"


def images(text: str) -> list[str]:
    """Returns the images of a file, each with its tag, without our own."""
    return list(dict.fromkeys(found["image"] for found in _IMAGE.finditer(text) if not found["image"].startswith(_OWN)))


def pinned(text: str, digests: Mapping[str, str]) -> str:
    """Returns the text with each image at its digest (sha256:…). Images without a digest stay unchanged."""

    def pin(found: re.Match[str]) -> str:
        digest = digests.get(found["image"])
        return f"{found['before']}{found['image']}@{digest}" if digest else found[0]

    return _IMAGE.sub(pin, text)


def main(root: Path) -> None:
    """Rewrites the files."""
    for name in _FILES:
        path = root / name
        text = path.read_text()
        path.write_text(pinned(text, {image: _digest(image) for image in images(text)}))


def _digest(image: str) -> str:
    command = ("docker", "buildx", "imagetools", "inspect", image, "--format", "{{.Manifest.Digest}}")
    digest = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise SystemExit(f"the registry gave no digest for {image}: {digest!r}")
    return digest


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path.cwd())
