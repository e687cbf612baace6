"""Every page against the repository and the program: links, file paths, modules, commands, settings, make targets.

A reader who follows a page must find every name that it uses. A failure shows the page and the missing name: correct
the page, or the thing it names.
"""

import argparse
import re
import shlex
from pathlib import Path, PurePosixPath

import pytest

from audiotext.cli import main
from core.settings import variable_names
from tests.docs.markdown import Page, pages

ROOT = Path(__file__).parents[2]
PAGES = pages(ROOT)
_SETTINGS = frozenset(variable_names())
_FOLDERS = frozenset(path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith("."))
# Packages that documents may name although this checkout does not have them would pass unseen, so they are listed.
_PACKAGES = _FOLDERS | {"core", "schemas", "redpanda", "sinks", "pipelines", "gateway", "api", "audiotext"}
_PLACEHOLDER = re.compile(r"[<{…]|\bX\b")

# The changelog also names files, commands and settings of the past.
_CURRENT = [page for page in PAGES if page.path != "CHANGELOG.md"]

every_page = pytest.mark.parametrize("page", _CURRENT, ids=[page.path for page in _CURRENT])


@pytest.mark.parametrize("page", PAGES, ids=[page.path for page in PAGES])
def test_links_resolve(page: Page) -> None:
    """Follows each relative link: the file must exist and have the heading that the link names."""
    broken = [link for link in page.links if not _resolves(page, link)]
    assert not broken


@every_page
def test_paths_exist(page: Page) -> None:
    """Looks for each repository path in code spans, such as `docs/api.md`, `tests/x.py::test_y` or `schemas/json/`."""
    missing = [span for span in page.spans if _is_path(span) and not _path_exists(span)]
    assert not missing


@every_page
def test_modules_exist(page: Page) -> None:
    """Looks for each module that a page runs by `python -m` or names with dots, such as `schemas.events`."""
    text = "\n".join([*page.spans, *page.shell_lines])
    run = [name for name in re.findall(r"python -m ([\w.]+)", text) if name.split(".")[0] in _PACKAGES]
    named = [span for span in page.spans if re.fullmatch(r"[a-z_]+(\.\w+)+", span) and _names_a_module(span)]
    missing = [name for name in run if not _module_exists(name, whole=True)]
    missing += [name for name in named if not _module_exists(name, whole=False)]
    assert not missing


@every_page
def test_commands_parse(page: Page) -> None:
    """Parses each `audiotext …` line of a code block as the command line would, with example values filled in."""
    refused = [line for line in page.shell_lines if (words := _command(line)) is not None and not _parses(words)]
    assert not refused


@every_page
def test_commands_in_the_text_exist(page: Page) -> None:
    """Looks for each command and option in code spans, such as `audiotext dlq` or `audiotext up --port 80`."""
    unknown = [span for span in page.spans if (words := _command(span)) is not None and not _is_known(words)]
    assert not unknown


@every_page
def test_settings_exist(page: Page) -> None:
    """Looks for each setting. A misspelt one would be set and do nothing."""
    named = set(re.findall(r"AUDIOTEXT_[A-Z][A-Z0-9_]*", page.text))
    # Tables leave the common beginning out: `KAFKA__BOOTSTRAP_SERVERS`, then `…SASL_USERNAME`.
    named |= {f"AUDIOTEXT_{span}" for span in page.spans if re.fullmatch(r"[A-Z0-9]+__[A-Z0-9_]+", span)}
    endings = {ending for span in page.spans for ending in re.findall(r"…([A-Z][A-Z0-9_]+)$", span.split("=")[0])}
    unknown = {name for name in named if not _setting_exists(name)}
    unknown |= {ending for ending in endings if not any(name.endswith(f"_{ending}") for name in _SETTINGS)}
    assert not unknown


@every_page
def test_make_targets_exist(page: Page) -> None:
    """Looks for each `make …` target."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    lines = [*page.shell_lines, *page.spans]
    named = {match.group(1) for line in lines if (match := re.search(r"(?:^|\s)make ([a-z-]+)", line))}
    assert named <= targets


def test_every_page_can_be_found() -> None:
    """Follows the links from the README. A failure shows pages that no link leads to: link them, or delete them."""
    by_path = {page.path: page for page in PAGES}
    reached, pending = set(), ["README.md"]
    while pending:
        path = pending.pop()
        if path in by_path and path not in reached:
            reached.add(path)
            pending += [_target(by_path[path], link)[0] for link in by_path[path].links]
    assert not {path for path in by_path if not path.startswith(".github/")} - reached


def test_pages_are_read() -> None:
    """Checks the reader itself: links, headings, spans and commands of a small page are found."""
    page = Page("docs/a.md", "# One `b` (c)\n\n## One\n[x](b.md#one) `audiotext up`\n\n```sh\naudiotext doctor\n```\n")
    assert page.links == ["b.md#one"]
    assert page.anchors == {"one-b-c", "one"}
    assert page.spans == ["b", "audiotext up"]
    assert page.shell_lines == ["audiotext doctor"]
    assert _parses(["doctor"])
    assert not _parses(["no-such-command"])
    assert _is_known(["dlq"])
    assert not _is_known(["dlq", "eat"])
    assert not _is_known(["up", "--no-such-option"])


def _target(page: Page, link: str) -> tuple[str, str]:
    """Returns the path, relative to the root, and the anchor that a link leads to."""
    path, _, anchor = link.partition("#")
    target = (ROOT / PurePosixPath(page.path).parent / path).resolve() if path else ROOT / page.path
    return target.relative_to(ROOT).as_posix(), anchor


def _resolves(page: Page, link: str) -> bool:
    path, anchor = _target(page, link)
    if not anchor:
        return (ROOT / path).exists()
    return any(anchor in other.anchors for other in PAGES if other.path == path)


def _is_path(span: str) -> bool:
    return bool(re.match(r"[\w.-]+/[^\s]*$", span)) and span.split("/", maxsplit=1)[0] in _PACKAGES


def _path_exists(span: str) -> bool:
    path, _, test = span.partition("::")
    if _PLACEHOLDER.search(path):  # the folder must exist, whatever the file will be called
        path = path[: _PLACEHOLDER.search(path + "…").start()].rpartition("/")[0]  # type: ignore[union-attr]
    if "*" in path:
        return any(ROOT.glob(path))
    if test:
        return (ROOT / path).is_file() and re.search(rf"def {re.escape(test)}\b", (ROOT / path).read_text()) is not None
    return (ROOT / path).exists()


def _names_a_module(span: str) -> bool:
    """Distinguishes `schemas.events` from `gateway.example.com`: the first name is a package of ours."""
    return span.split(".", maxsplit=1)[0] in _PACKAGES and not re.search(
        r"\.(py|md|json|yml|yaml|toml|log|env|com)$", span
    )


def _module_exists(name: str, *, whole: bool) -> bool:
    """whole: the last name must be a module, too; otherwise it may be something in the module."""
    parts = name.split(".")
    prefixes = [parts] if whole else [parts, parts[:-1], parts[:-2]]
    return any(
        ROOT.joinpath(*prefix).with_suffix(".py").is_file() or ROOT.joinpath(*prefix, "__init__.py").is_file()
        for prefix in prefixes
        if len(prefix) > 1 or len(parts) == 1 or (not whole and len(parts) == 2 and prefix == parts)
    )


def _command(line: str) -> list[str] | None:
    """Returns the words after `audiotext`; None if the line runs something else."""
    match = re.match(r"(?:[A-Z_]+=\S+ |.* exec .*?|\S*/bin/)*audiotext (?!\|)(.*)", line)
    if not match or line.startswith("audiotext/"):
        return None
    try:
        words = shlex.split(match.group(1), comments=True)
    except ValueError:  # a quote that is not closed: no command
        return None
    return words or None


def _parses(words: list[str]) -> bool:
    """Parses a command whose `<placeholders>` are filled in."""
    try:
        arguments = main.parser().parse_args(words)
    except SystemExit:
        return False
    return bool(arguments.run)


def _is_known(words: list[str]) -> bool:
    """Follows the subcommands as far as they are named, and looks for the options."""
    parser: argparse.ArgumentParser = main.parser()
    for word in words:
        choices = _subcommands(parser)
        if word.startswith("-"):
            if word.split("=")[0] not in parser._option_string_actions:
                return False
        elif choices is not None and word not in ("…", "X"):
            alternatives = word.split("|")
            if not set(alternatives) <= choices.keys():
                return False
            parser = choices[alternatives[0]]
    return True


def _subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser] | None:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return None


def _setting_exists(name: str) -> bool:
    """A name that ends with an underscore is the beginning of one that the page leaves incomplete."""
    if name.endswith("_"):
        return any(setting.startswith(name) for setting in _SETTINGS)
    return name in _SETTINGS
