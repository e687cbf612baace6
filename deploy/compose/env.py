"""Writes .env for docker-compose.yml: a random secret for each variable without a value. `make env` runs it.

Existing values stay: a changed secret would lock services out of the stores that were created with it. It uses only
the standard library.
"""

import os
import re
import secrets
import sys
from pathlib import Path

# Kratos' cipher needs exactly 32 characters. The other secrets may be longer.
_LENGTH = 32
_REQUIRED = re.compile(r"\$\{([A-Z_]+):\?run make env\}")
_URL = "AUDIOTEXT_PUBLIC_URL"


def env_file(compose: str, present: str) -> str:
    """Returns the file's new content: the present one, with a line for each missing secret of docker-compose.yml."""
    names_present = {line.partition("=")[0].strip() for line in present.splitlines() if "=" in line}
    lines = [present.rstrip("\n")] if present.strip() else []
    if _URL not in names_present:
        lines.append(f"# Public address of the gateway for carriers: https:// and your host name.\n{_URL}=")
    names = dict.fromkeys(_REQUIRED.findall(compose))
    lines += [f"{name}={secrets.token_hex(_LENGTH // 2)}" for name in names if name not in names_present]
    return "\n".join(lines) + "\n"


def main(root: Path) -> None:
    """Writes .env. Only its owner can read it."""
    path = root / ".env"
    present = path.read_text() if path.exists() else ""
    content = env_file((root / "docker-compose.yml").read_text(), present)
    partial = path.with_name(".env.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(content)
    partial.replace(path)
    if f"{_URL}=\n" in content:
        print(f"secrets are in .env; set {_URL} there, then: docker compose up -d --build")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path.cwd())
