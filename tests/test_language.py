"""The language of docstrings, comments, messages and documents: plain sentences that a reader understands at once."""

import pytest

from tests import language


@pytest.mark.slow
def test_no_file_has_more_findings_than_its_baseline() -> None:
    """Compares the findings of every file with tests/language_baseline.json.

    A failure means that new text is hard to read (rewrite it), or that text was repaired and the baseline must be
    lowered (`python -m tests.language --update`).
    """
    problems = language.differences(language.all_findings(), language.read_baseline())
    assert not problems, "\n".join(
        ["rewrite these, or run `python -m tests.language --update` if there are fewer than before:", *problems]
    )


# Each rule with text it must find. The dialect stands in the data, split so that this file has no findings itself.
_FOUND = [
    ("a.py", '"""Wha' + 't the gateway remembers of a call."""', "inverted sentence"),
    ("a.py", '"""Stores calls. Whe' + 'ther it worked."""', "inverted sentence"),
    ("a.py", "# Wh" + "o asks is served.\nx = 1", "inverted sentence"),
    ("a.py", '"""Ho' + 'w loud a track is."""', "docstring begins with a clause"),
    ("a.py", 'raise ValueError("a language that is n' + 'one")', '"no" or "none" for invalid'),
    ("a.py", 'raise ValueError(f"{text} is n' + 'o JSON")', '"no" or "none" for invalid'),
    ("a.py", "x = 1  # to" + "ld once", "wrong verb for publish"),
    ("a.py", 'log.info("the call goes o' + 'n")', "wrong verb for continue"),
    ("a.md", "The gateway\ntel" + "ls the API.", "wrong verb for publish"),
    ("a.md", "| cell | it goes o" + "n |", "wrong verb for continue"),
    ("a.js", 'show("It goes o' + 'n");', "wrong verb for continue"),
    ("a.js", "// Wha" + "t comes next.", "inverted sentence"),
    ("a.html", "<p>The call goes o" + "n.</p>", "wrong verb for continue"),
    ("a.sql", "SELECT 1;  -- to" + "ld once", "wrong verb for publish"),
    ("a.yaml", "key: value\n# Whi" + "ch pods may talk.", "inverted sentence"),
]


@pytest.mark.parametrize(("path", "source", "rule"), _FOUND)
def test_dialect_is_found(path: str, source: str, rule: str) -> None:
    """Checks one piece of text per rule and file type. A failure means that the rule no longer works there."""
    assert [finding.rule.name for finding in language.findings_in(path, source)] == [rule]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("a.py", '"""Returns the call, or None if there is none."""'),
        ("a.py", '"""There is no gap. The rest is no longer needed."""'),
        ("a.py", "# What happens if the log is away? The gateway holds the audio.\nx = 1"),
        ("a.py", '"""Continues after a crash; says what happened and who asked."""'),
        ("a.md", "## What is promised\n\nNothing is lost.\n\n```sh\necho 'it goes o" + "n'\n```\n"),
        ("a.md", "Call `tel" + "l()` to publish."),
    ],
)
def test_plain_text_passes(path: str, source: str) -> None:
    """Checks text without dialect: questions, headings, code, and "no" where it is plain English."""
    assert language.findings_in(path, source) == []


def test_a_new_finding_is_reported_with_its_place() -> None:
    """Compares one finding with an empty baseline: the report must name file, line and advice."""
    found = language.findings_in("a.py", "x = 1\n\n# to" + "ld once\n")
    report = language.differences(found, {})
    assert report[0] == "a.py: 1 findings, 0 allowed"
    assert "a.py:3" in report[1]
    assert "publish" in report[1]


def test_a_baseline_that_is_too_high_is_reported() -> None:
    """Compares no findings with a baseline of two. A failure means that repaired text could become bad again."""
    assert language.differences([], {"a.py": 2}) == ["a.py: 0 findings, but the baseline still allows 2"]


def test_code_of_this_repository_is_read() -> None:
    """The list of files must contain code, tests and documents, and nothing that others wrote."""
    files = language.files()
    assert {"README.md", "tests/test_language.py", "docs/glossary.md"} <= set(files)
    assert not [path for path in files if "/vendor/" in path or path.startswith(".venv")]
