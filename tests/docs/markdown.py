"""Reads Markdown pages: their links, headings, code spans and shell commands."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"\]\(<?([^)\s>]+)>?\)")


@dataclass(frozen=True)
class Page:
    """One page. path: relative to the repository's root."""

    path: str
    text: str

    @cached_property
    def prose(self) -> str:
        """The page without its code blocks."""
        return _FENCE.sub("", self.text)

    @cached_property
    def links(self) -> list[str]:
        """Targets of links and images that stay inside the repository."""
        targets = _LINK.findall(_SPAN.sub("", self.prose))
        return [target for target in targets if not re.match(r"[a-z][a-z+.-]*:", target)]

    @cached_property
    def anchors(self) -> set[str]:
        """Names that `#…` in a link can have, as GitHub derives them from headings."""
        anchors: set[str] = set()
        for heading in re.findall(r"^#{1,6} +(.*?) *#*$", self.prose, re.MULTILINE):
            words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
            name = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
            count = 0
            while (unique := f"{name}-{count}" if count else name) in anchors:
                count += 1
            anchors.add(unique)
        return anchors

    @cached_property
    def spans(self) -> list[str]:
        """Contents of `code spans` in the prose."""
        return _SPAN.findall(self.prose)

    @cached_property
    def shell_lines(self) -> list[str]:
        """Lines of code blocks that a shell would run: those of `sh` blocks and of blocks without a language."""
        blocks = [block for _, language, block in _FENCE.findall(self.text) if language in ("", "sh")]
        return [line.strip().removeprefix("$ ") for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def pages(root: Path) -> list[Page]:
    """Returns every page: those at the top, those below `docs`, and the templates for issues and pull requests."""
    found = [*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob(".github/**/*.md")]
    return [Page(path.relative_to(root).as_posix(), path.read_text()) for path in sorted(found)]
