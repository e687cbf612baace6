"""A carrier is one file: whoever is behind the log does not know that there are any."""

import re
from pathlib import Path

import pytest

import gateway
from tests.gateway.carriers.talk import CARRIERS

ROOT = Path(gateway.__file__).parents[1]


@pytest.mark.parametrize("folder", ["pipelines", "schemas", "sinks", "redpanda"])
def test_nobody_behind_the_log_knows_a_carrier(folder: str) -> None:
    """Looks for carriers' names, and for imports of the gateway, in everything behind the log: none. Otherwise adding
    a carrier would be a change there, too."""
    told = re.compile(rf"\b({'|'.join(CARRIERS)})\b|^(from|import) gateway\.(?!api)", re.IGNORECASE | re.MULTILINE)
    sources = [path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".sql", ".yaml")]
    assert sources
    assert [str(path) for path in sources if told.search(path.read_text())] == []
