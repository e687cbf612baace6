"""Finds who speaks in a call: the names and the firm that the speakers give themselves. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from pipelines.providers.extractive.coverage import word_set

LABELS = {"inbound": "the customer", "outbound": "the agent"}
"""Roles by the recording's tracks, for speakers who do not give a name."""

_WORD = r"[A-Za-z\u00c0-\u024f][\w'\u00c0-\u024f-]*"
_NAME_IS = re.compile(
    r"(?:\b(?P<sure>my name is|my name's|the name is(?: [\w'-]+,(?= [A-Z]))?|i'm called|it's for me,)"
    r"|\b(?:name's|this is|it's me,|you're (?:speaking|talking) (?:with|to)))"
    rf"\s+(?P<name>(?:{_WORD}\s?){{1,3}})",
    re.IGNORECASE,
)
_SPEAKING = re.compile(rf"\b((?:{_WORD} ){{1,2}})speaking\b", re.IGNORECASE)
_BARE = re.compile(r"^([A-Z][\w'\u00c0-\u024f-]+(?: [A-Z][\w'\u00c0-\u024f-]+){1,2})(?=$|[,.]| and )")
_FIRM = re.compile(
    r"\b(?:thank you for calling|thanks for calling|welcome to|am i (?:speaking|talking) (?:to|with)|calling"
    r"|here at)\s+(.+?)"
    r"(?=[,.!?]|\s+(?:this is|my name|you're|you are|how|what|speaking)\b|$)",
    re.IGNORECASE,
)
_ASKS_NAME = re.compile(
    r"\b(?:your|the|full|last|and|what|which|whose) (?:\w+ )?name\b(?! is (?!it\b))|\bwho\b|\bname is\?", re.IGNORECASE
)
_GREETING = re.compile(r"^(?:good (?:morning|afternoon|evening)|hello|hi|welcome)\b[, ]*", re.IGNORECASE)
_MOST_WORDS_OF_FIRM = 5
_MOST_WORDS_WITHOUT_CAPITALS = 2  # of a name
# Words that follow "this is" or "it's" without being a name, and words at which a name ends.
_NO_NAME = word_set(
    "a an the not very really so just about because my your our his her their it that this what how and or from "
    "in on at for to with of calling speaking here is was are i you we they he she can could may all right good "
    "great fine sure okay ok um uh yes no urgent important mr mrs ms dr doctor what's help desk reception "
    "department claims customer care hi hello hey thank thanks morning afternoon evening madam sir again "
    "everybody there much"
)


@dataclass(frozen=True, slots=True)
class Parties:
    """Speakers of a call. names: full name by speaker, of those who give one. firm: "" if nobody names it."""

    names: Mapping[str, str] = field(default_factory=dict)
    firm: str = ""

    def short(self, speaker: str) -> str:
        """Returns the first name, or the role ("the customer")."""
        name = self.names.get(speaker)
        return name.split()[0] if name else LABELS.get(speaker, speaker)

    def full(self, speaker: str) -> str:
        """Returns the full name, or the role."""
        return self.names.get(speaker) or LABELS.get(speaker, speaker)

    @property
    def words(self) -> list[str]:
        """Returns all names, and their first words, longest first."""
        found = {part for name in self.names.values() for part in (name, name.split()[0], name.split()[-1])}
        return sorted(found, key=lambda name: (-len(name), name))


def parties_of(turns: Sequence[tuple[str, str]]) -> Parties:
    """Returns the parties of English turns, each a speaker and a text."""
    names: dict[str, str] = {}
    firm = ""
    begun: set[str] = set()
    for index, (speaker, text) in enumerate(turns):
        first = speaker not in begun
        begun.add(speaker)
        asked = index > 0 and turns[index - 1][0] != speaker and bool(_ASKS_NAME.search(turns[index - 1][1]))
        name = _named(text, first=first) or (_bare(text) if asked else "")
        if name and len(name.split()) > len(names.get(speaker, "").split()):
            others = [other for whose, other in names.items() if whose != speaker]
            if name not in others:
                names[speaker] = name
        if not firm and (found := _firm(text, name)) and (name or _FIRM.search(text)):
            firm = found
    return Parties(names, firm)


def _named(text: str, *, first: bool) -> str:
    """Returns the name by which the speaker of a text introduces himself. first: it is the speaker's first turn."""
    cased = text != text.lower()  # a transcript without capitals writes names like other words
    for match in _SPEAKING.finditer(text):
        if words := list(takewhile(lambda word: _can_be_name(word, cased), reversed(match[1].split()))):
            return _name(words[::-1])
    for match in _NAME_IS.finditer(text):
        words = list(takewhile(lambda word: _can_be_name(word, cased), match["name"].split()))
        if words and (cased or first or match["sure"]):
            return _name(words if cased else words[:_MOST_WORDS_WITHOUT_CAPITALS])
    return ""


def _can_be_name(word: str, cased: bool) -> bool:
    low = word.lower()
    return low not in _NO_NAME and not low.endswith(("'re", "'m", "'ve", "'ll")) and (word[0].isupper() or not cased)


def _name(words: Sequence[str]) -> str:
    return " ".join(word if word[0].isupper() else word.capitalize() for word in words)


def _bare(text: str) -> str:
    """Returns a name that is all of an answer's first words."""
    for piece in re.split(
        r"[.!?]\s+|, | it's | and ",
        re.sub(r"\b(?:it's|yes|yeah|sure|that's|the name is)\b[, ]*", "", text, flags=re.IGNORECASE),
    ):
        found = _BARE.match(piece.strip())
        if found and not any(word.lower() in _NO_NAME for word in found[1].split()):
            return found[1]
    return ""


def _firm(text: str, name: str) -> str:
    found = _FIRM.search(text)
    if found and not re.match(r"(?:about|because|to|you|me|from|for|in|on)\b", found[1], re.IGNORECASE):
        return _title(" ".join(found[1].split()[:_MOST_WORDS_OF_FIRM]))
    first = re.split(r"[,.!?]", _GREETING.sub("", text.strip()))[0].strip()
    words = first.split()
    if (
        name
        and name.split(maxsplit=1)[0] not in first
        and 2 <= len(words) <= _MOST_WORDS_OF_FIRM
        and first[0].isupper()
    ):
        return first if not _NAME_IS.search(first) else ""
    return ""


def _title(firm: str) -> str:
    return firm if firm != firm.lower() else firm.title()
