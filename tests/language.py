"""Finds phrases that readers with English as a second language stumble over, in code and documents.

Text means docstrings, comments, string literals and Markdown prose. `tests/test_language.py` compares the number of
findings per file with `tests/language_baseline.json`, so that old text may be repaired step by step and new text is
plain from the start.

    python -m tests.language            # prints every finding
    python -m tests.language FILE …     # prints the findings of these files
    python -m tests.language --update   # writes the baseline anew; refuses if there are more findings than before
"""

import ast
import io
import json
import re
import sys
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
BASELINE = ROOT / "tests" / "language_baseline.json"

_SUFFIXES = frozenset({".py", ".md", ".js", ".html", ".sql", ".yml", ".yaml", ".toml", ".sh"})
_NAMES = frozenset({"Makefile", "Dockerfile", "run"})
# Generated, copied or kept as they were: nobody edits these.
_SKIPPED_FOLDERS = frozenset({"vendor", "landed", "node_modules", "build", "data", "screenshots"})
_SKIPPED_FILES = frozenset({"docs/metrics.md"})


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing to avoid. advice: what to write instead."""

    name: str
    pattern: re.Pattern[str]
    advice: str
    docstrings_only: bool = False


# A sentence begins at the start of the text, after another sentence, or after an empty line.
_BEGIN = r"(?:\A|(?<=[.!?]\s)|(?<=\n\n))\s*"
_NO_QUESTION = r"(?=[^.?!]*(?:[.!]|\Z))"

RULES = (
    Rule(
        "inverted sentence",
        re.compile(_BEGIN + r"(?:What|Whatever|Who|Whoever|Whose|Which|Whether)\b" + _NO_QUESTION),
        "begin with the subject or a verb",
    ),
    Rule(
        "docstring begins with a clause",
        re.compile(r"\A\s*(?:How|Where|When|Why)\b" + _NO_QUESTION),
        'begin with a verb ("Returns …") or a noun phrase',
        docstrings_only=True,
    ),
    Rule(
        '"no" or "none" for invalid',
        re.compile(r"(?<!there )(?<!There )\b(?:is|are|was|were|be) (?:none\b|no (?!longer\b|more\b)\w)"),
        'write "invalid", "missing", "unknown" or "not a …"',
    ),
    Rule(
        "wrong verb for publish",
        re.compile(r"\b(?:[Tt]ells?|[Tt]old|[Tt]elling)\b"),
        'write "publish", "emit", "report", "say" or "distinguish"',
    ),
    Rule(
        "wrong verb for continue",
        re.compile(
            r"\b(?:[Gg]o|[Gg]oes|[Gg]oing|went|gone) on\b(?! (?:the|its|a) (?:own |same )?(?:log|topics?|retry)\b)"
        ),
        'write "continue"',
    ),
)


@dataclass(frozen=True, slots=True)
class Text:
    """Connected prose in a file. line: of its first line."""

    line: int
    prose: str
    docstring: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """A place that breaks a rule."""

    path: str
    line: int
    rule: Rule
    excerpt: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule.name} (“{self.excerpt}”): {self.rule.advice}"


def findings_in(path: str, source: str) -> list[Finding]:
    """Returns the findings of one file. path: relative to the repository; its ending decides how it is read."""
    found = []
    for text in _texts(path, source):
        for rule in RULES:
            if rule.docstrings_only and not text.docstring:
                continue
            for match in rule.pattern.finditer(text.prose):
                start = match.end() - len(match.group().lstrip())
                line = text.line + text.prose.count("\n", 0, start)
                excerpt = " ".join(text.prose[start : start + 60].split())
                found.append(Finding(path, line, rule, excerpt))
    return sorted(found, key=lambda finding: finding.line)


def all_findings(root: Path = ROOT) -> list[Finding]:
    """Returns the findings of every file in the repository."""
    return [finding for path in files(root) for finding in findings_in(path, (root / path).read_text(encoding="utf-8"))]


def files(root: Path = ROOT) -> list[str]:
    """Returns the paths of all files that are checked, sorted."""
    found = []
    pending = [root]
    while pending:
        for child in pending.pop().iterdir():
            hidden = child.name.startswith(".") and child.name not in (".github", ".ci", ".pre-commit-config.yaml")
            if hidden or child.is_symlink():
                continue
            if child.is_dir():
                if child.name not in _SKIPPED_FOLDERS and not child.name.endswith(".egg-info"):
                    pending.append(child)
            elif child.suffix in _SUFFIXES or child.name in _NAMES:
                found.append(child.relative_to(root).as_posix())
    return sorted(set(found) - _SKIPPED_FILES)


def counts(found: Sequence[Finding]) -> dict[str, int]:
    """Returns the number of findings per file, without files that have none, sorted by path."""
    paths = sorted({finding.path for finding in found})
    return {path: sum(finding.path == path for finding in found) for path in paths}


def read_baseline(path: Path = BASELINE) -> dict[str, int]:
    """Returns the number of findings that each file may have. Empty if there is no baseline."""
    if not path.exists():
        return {}
    baseline: dict[str, int] = json.loads(path.read_text())
    return baseline


def differences(found: Sequence[Finding], baseline: Mapping[str, int]) -> list[str]:
    """Returns one line per problem: new findings, and entries of the baseline that are larger than reality."""
    actual = counts(found)
    problems = []
    for path in sorted(actual.keys() | baseline.keys()):
        has, may = actual.get(path, 0), baseline.get(path, 0)
        if has > may:
            problems.append(f"{path}: {has} findings, {may} allowed")
            problems += [f"  {finding}" for finding in found if finding.path == path]
        elif has < may:
            problems.append(f"{path}: {has} findings, but the baseline still allows {may}")
    return problems


def main(arguments: Sequence[str]) -> int:
    """Prints findings, or updates the baseline. Returns the exit code."""
    if arguments == ["--update"]:
        found = all_findings()
        if BASELINE.exists() and len(found) > sum(read_baseline().values()):
            print("\n".join(differences(found, read_baseline())))
            print(
                "There are more findings than before: rewrite the new text. "
                "After a merge of old text, delete the baseline first."
            )
            return 1
        BASELINE.write_text(json.dumps(counts(found), indent=2) + "\n")
        print(f"{len(found)} findings in {len(counts(found))} files")
        return 0
    wanted = set(arguments)
    found = [finding for finding in all_findings() if not wanted or finding.path in wanted]
    for finding in found:
        print(finding)
    return 1 if found else 0


def _texts(path: str, source: str) -> Iterator[Text]:
    if path.endswith(".py"):
        yield from _python(source)
    elif path.endswith(".md"):
        yield from _markdown(source)
    elif path.endswith(".js"):
        yield from _javascript(source)
    elif path.endswith(".html"):
        yield from _html(source)
    elif path.endswith(".sql"):
        lines = source.replace("--", "#").splitlines()
        yield from _comments([(number, line) for number, line in enumerate(lines, 1)])
    else:
        yield from _comments([(number, line) for number, line in enumerate(source.splitlines(), 1)])


def _python(source: str) -> Iterator[Text]:
    """Yields docstrings, other strings and comments. Values in f-strings are replaced by a placeholder."""
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = set()
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            statement = node.body[0]
            assert isinstance(statement, ast.Expr)
            docstrings.add(statement.value)
        # A string after an assignment documents the name that is assigned.
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            docstrings.add(node.value)
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            if node in docstrings or " " in node.value:
                yield Text(node.lineno, _unindented(node.value), docstring=node in docstrings)
        elif isinstance(node, ast.JoinedStr):
            parts = [str(part.value) if isinstance(part, ast.Constant) else "0" for part in node.values]
            yield Text(node.lineno, "".join(parts))
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    yield from _comments([(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT])


def _unindented(text: str) -> str:
    return re.sub(r"\n[ \t]+", "\n", text)


def _comments(lines: Sequence[tuple[int, str]]) -> Iterator[Text]:
    """Yields comments that begin with `#`; those on consecutive lines are one text."""
    first, last, prose = 0, -1, ""
    for number, line in lines:
        match = re.match(r"\s*#+!?\s?(.*)", line) or re.search(r"\s#\s(.*)", line)
        if not match:
            continue
        if number == last + 1 and line.lstrip().startswith("#"):
            prose += "\n" + match.group(1)
        else:
            if prose:
                yield Text(first, prose)
            first, prose = number, match.group(1)
        last = number
    if prose:
        yield Text(first, prose)


_JS_TEXT = re.compile(r"//\s?(?P<line>.*)|/\*(?P<block>.*?)\*/|\"(?P<double>[^\"\n]*)\"|`(?P<back>[^`]*)`", re.DOTALL)


def _javascript(source: str) -> Iterator[Text]:
    """Yields strings and comments. A comment that covers several lines with `//` is one text per line."""
    for match in re.finditer(_JS_TEXT, source):
        prose = next(group for group in match.groups() if group is not None)
        prose = prose.split("\n")[0] if match.group("line") is not None else prose
        if " " in prose:
            yield Text(source.count("\n", 0, match.start()) + 1, re.sub(r"\n\s*\*?\s*", "\n", prose))


def _html(source: str) -> Iterator[Text]:
    """Yields the text between tags, and attributes that are shown or read aloud."""
    for match in re.finditer(r">([^<>]*\w[^<>]*)<|(?:title|alt|aria-label|placeholder|content)=\"([^\"]*)\"", source):
        yield Text(source.count("\n", 0, match.start()) + 1, (match.group(1) or match.group(2) or "").strip())


def _markdown(source: str) -> Iterator[Text]:
    """Yields paragraphs, list items and table cells. Headings, code and HTML comments are left out."""
    source = re.sub(
        r"^```.*?^```", lambda match: "\n" * match.group().count("\n"), source, flags=re.DOTALL | re.MULTILINE
    )
    source = re.sub(r"`[^`\n]*`", "0", source)
    first, prose = 0, ""
    for number, line in enumerate(source.splitlines(), 1):
        text = line.strip()
        begins_anew = not text or text.startswith(("#", "|", "- ", "* ", ">")) or re.match(r"\d+\. ", text)
        if begins_anew and prose:
            yield Text(first, prose)
            prose = ""
        if not text or text.startswith("#"):
            continue
        if text.startswith("|"):
            for cell in text.strip("|").split("|"):
                yield Text(number, cell.strip())
            continue
        text = re.sub(r"^(?:[-*>]|\d+\.) ", "", text)
        first, prose = (first, f"{prose}\n{text}") if prose else (number, text)
    if prose:
        yield Text(first, prose)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
