"""Chromium for the tests of the web page, if it is installed. A pytest plugin, loaded by tests/conftest.py."""

import shutil
from pathlib import Path

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")  # Debian's, Ubuntu's, Google's own package
_CURE = "apt-get install chromium"


def _installed() -> Path | None:
    return next((Path(found) for name in _NAMES if (found := shutil.which(name))), None)


def pytest_report_header() -> str:
    """Reports if the tests of the web page run."""
    return f"web tests: {_installed() or f'NOT (no Chromium found: {_CURE})'}"


@pytest.fixture(scope="session")
def chromium() -> Path:
    """Returns the path of Chromium. Skips the test if it is not installed. As root it needs `--no-sandbox`."""
    found = _installed()
    if found is None:
        pytest.skip(f"no Chromium found: {_CURE}")
    return found
