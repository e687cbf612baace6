"""One running stack for all end-to-end tests that do not break it."""

from collections.abc import Iterator

import pytest

from tests.support.up_process import UpProcess


@pytest.fixture(scope="session")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UpProcess]:
    """Runs `audiotext up` on an empty directory."""
    process = UpProcess(tmp_path_factory.mktemp("up") / "data")
    process.start()
    yield process
    if process.running:
        process.stop()
