"""The table of guarantees at the head of this folder."""

import re
from pathlib import Path

import tests.pipelines.guarantees

_PIPELINES = Path(__file__).parents[1]


def test_every_guarantee_has_tests_that_exist() -> None:
    """All fourteen guarantees are there, and each row names modules and tests that exist.

    A failure means that a test was renamed or deleted, and that nobody knows any more what a guarantee rests on.
    """
    rows = re.findall(r"^\| (\d+)\. .*\| (.*) \|$", tests.pipelines.guarantees.__doc__ or "", re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 15))
    for number, named in rows:
        for module, test in re.findall(r"`(test_\w+)(?:\.(test_\w+))?`", named):
            texts = [path.read_text() for path in _PIPELINES.rglob(f"{module}.py")]
            assert any(f"def {test or 'test_'}" in text for text in texts), f"guarantee {number}: {module}.{test}"
