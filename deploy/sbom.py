"""Prints a software bill of materials (CycloneDX 1.6, JSON) of the locked packages. `make sbom` runs it.

It uses only the standard library.
"""

import json
import re
import sys
import tomllib
from pathlib import Path

_LOCKS = ("requirements.lock", "requirements.nodeps.lock", "audiotext/models.lock")
_ENTRY = re.compile(r"^(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>[^\s;\\]+)", re.MULTILINE)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def document(name: str, locks: list[str]) -> dict[str, object]:
    """Returns the bill of materials. name: of the distribution. locks: content of the lock files."""
    components: dict[str, dict[str, object]] = {}
    for lock in locks:
        found = list(_ENTRY.finditer(lock))
        for entry, following in zip(found, [*found[1:], None], strict=True):
            package, version = re.sub(r"[-_.]+", "-", entry["name"]).lower(), entry["version"]
            text = lock[entry.start() : following.start() if following else None]
            reference = f"pkg:pypi/{package}@{version}"
            # One hash per file of the release; an installation uses the file of its platform.
            properties = [{"name": "audiotext:sha256", "value": value} for value in _HASH.findall(text)]
            components[reference] = {
                "type": "library",
                "bom-ref": reference,
                "name": package,
                "version": version,
                "purl": reference,
                "properties": properties,
            }
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": name}},
        "components": [components[reference] for reference in sorted(components)],
    }


def main(root: Path) -> None:
    """Prints the document."""
    name = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["name"]
    locks = [(root / path).read_text("utf-8") for path in _LOCKS]
    print(json.dumps(document(name, locks), indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path.cwd())
