"""Turns a transcript into the statements that a summary can have: rewritten, and rated by their kind. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipelines.providers.extractive.action_items import OTHER, SPEAKER, Commitment, commitment_in
from pipelines.providers.extractive.clauses import clauses_of
from pipelines.providers.extractive.coverage import length, stem, tokens, word_set
from pipelines.providers.extractive.english import (
    LIGHT_WORDS,
    STOP_WORDS,
    is_english,
    says_something,
    without_courtesies,
    without_fillers,
)
from pipelines.providers.extractive.parties import Parties
from pipelines.providers.extractive.questions import has_value, is_question, topic_of, value_of, yes_or_no
from pipelines.providers.extractive.retelling import retold
from pipelines.text.sentences import split_sentences
from schemas.artifacts import Transcript

# How much a statement counts beside its words, by its kind. The reason for the call is always worth its words.
_REASON, _EARLY, _OUTCOME, _ACTION = 10.0, 1.15, 2.0, 1.5
_ANSWER, _QUESTION, _POINTING, _OPTIONS = 0.85, 0.5, 0.75, 0.5
_EDGE = 0.3  # in a language that nobody here understands: calls begin and end with courtesies
_END = 0.25  # what is said at the end counts so much more than what is said at the beginning
_EARLY_TURNS = 3
_LONG_REASON = 25  # words
_FEWEST_TURNS = 6  # of a call that has courtesies at its edges

_FEWEST_WORDS = 4
_FEWEST_IN_POINT = 3
_FEWEST_WITH_CONTENT, _ENOUGH_CONTENT = 2, 4

_HAS_DONE = re.compile(
    r"(?:i|we)(?:'ve| have) (?!to\b|an?\b|the\b|got\b|been\b|had\b|no\b|\w+ed to\b)\w+"
    r"|.*\b(?:test|scan|check|system|result)s? shows?\b",
    re.IGNORECASE,
)
_CONFIRMS = re.compile(
    r"(?:so|then|okay|right)[, ]+(?:that's|it's|that is|that would be)\s+(?P<what>.*)", re.IGNORECASE
)
_POINTS_BACK = re.compile(r".*\bthat's\b|(?:he|she|it|they|that|this|there|those|these)\b", re.IGNORECASE)
_POINTS = re.compile(r"\b(?:it|them|that|this|one|so)\b", re.IGNORECASE)
_GIVES_OPTIONS = re.compile(r".*\bor\b", re.IGNORECASE)
_WHEN = re.compile(r"\b(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day|tomorrow|today|tonight|\d)", re.IGNORECASE)
_REFUSES = re.compile(
    r"\W*(?:no|not|unfortunately|i can't|that doesn't|.{0,24}\b(?:difficult|at work))\b", re.IGNORECASE
)
_LATER_PART = re.compile(
    r",? (?:to (?:fill|see|talk|make|check|get)|so that|because|while|until|when|before|if|whenever) |, "
)
_FIRST_WORDS = re.compile(r"^(?:[^\W\d_]+, )+")  # in any language
_UNFINISHED = re.compile(
    r"\b(?:supposed|going|able|likes?|needs?|wants?|wanted|have|has|had|tr(?:y|ies|ied)|forget|remember|is|are|was|and|or|the|a)$"
)
_LAST_PART = re.compile(r" (?:in the (?:morning|afternoon|evening)|the (?:day|week|night) before|the whole time)$")
_SAYS_WHY = re.compile(
    r"\b(?:i'm|i am|we're) (?:calling|phoning|ringing) (?:you )?(?:because|about|to|for)\b", re.IGNORECASE
)
_REQUEST = re.compile(r"(?:can|could|would|will) you\b", re.IGNORECASE)
_COURTEOUS = word_set("name speaking reception care customer department hotel desk with last full")


@dataclass(frozen=True, slots=True)
class Turn:
    """Speech of one speaker until the other one speaks. clauses: the clauses of an English turn."""

    speaker: str
    text: str
    english: bool = False
    clauses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Statement:
    """Candidate line of a summary.

    factor: its weight. group: number of the statements with the same content. owner: owner of an action item, "" for
    any other statement. label: the speaker, if the text begins with the speaker. reason: it is the reason of the call;
    says_why: it may be the reason. outcome: it reports a result.
    """

    text: str
    speaker: str
    factor: float
    group: int = 0
    english: bool = True
    owner: str = ""
    label: str = ""
    reason: bool = False
    outcome: bool = False
    says_why: bool = False

    @property
    def line(self) -> str:
        """Returns the text as readers see it."""
        return f"{self.owner}: {self.text}" if self.owner else self.text


def turns_of(transcript: Transcript) -> list[Turn]:
    """Returns the call's turns. Whether a speaker speaks English is decided by all that the speaker says."""
    joined: list[tuple[str, str]] = []
    spoken: dict[str, list[str]] = {}
    for segment in transcript.segments:
        text = segment.text.strip()
        if not text:
            continue
        spoken.setdefault(segment.speaker, []).extend(text.split())
        if joined and joined[-1][0] == segment.speaker:
            text = f"{joined.pop()[1]} {text}"
        joined.append((segment.speaker, text))
    expected = transcript.language.lower().startswith("en")
    english = {speaker: is_english(words, expected) for speaker, words in spoken.items()}
    return [_english_turn(speaker, text) if english[speaker] else Turn(speaker, text) for speaker, text in joined]


def _english_turn(speaker: str, text: str) -> Turn:
    text = without_fillers(text)
    return Turn(speaker, text, english=True, clauses=tuple(clauses_of(text)))


def statements_of(turns: Sequence[Turn], parties: Parties) -> list[Statement]:
    """Returns all statements, in the order of the call.

    A statement with an optional part is returned twice, in one group: first with the part, then without it.
    """
    maker = _Maker(turns, parties)
    made = [(index, one) for index in range(len(turns)) for one in maker.statements(index)]
    early = _early(turns, made)
    why = [one for one in early if maker.content(one.text) >= _FEWEST_WITH_CONTENT]
    why = [one for one in why if one.says_why] + why
    found: list[Statement] = []
    for group, (index, one) in enumerate(made):
        reason = bool(why) and one is why[0]
        kind = _REASON if reason else _EARLY if any(one is other for other in early) else 1.0
        factor = one.factor * kind * (1 + _END * index / len(turns))
        found.append(replace(one, factor=factor, group=group, reason=reason))
        if not one.english:
            found += [replace(found[-1], text=text) for text in _shorter_foreign(one.text, one.label)]
        elif not (reason and len(one.text.split()) <= _LONG_REASON):
            found += [replace(found[-1], text=text) for text in _shorter(one.text)]
    return found


def _early(turns: Sequence[Turn], made: Sequence[tuple[int, Statement]]) -> list[Statement]:
    """Returns what the one who asks, not the agent, states at the beginning."""
    agent = any(turn.speaker == "outbound" for turn in turns)
    stated = [
        (index, one)
        for index, one in made
        if one.english and not one.owner and not (agent and one.speaker == "outbound")
    ]
    first = list(dict.fromkeys(index for index, _ in stated))[:_EARLY_TURNS]
    return [one for index, one in stated if index in first and ": " not in one.text]


def _shorter(text: str) -> list[str]:
    """Returns the text without a part that can be left out."""
    cut = [text[: found.start()] for part in (_LATER_PART, _LAST_PART) for found in part.finditer(text)]
    return [
        shorter
        for shorter in cut
        if shorter != text
        and len(shorter.split()) >= _FEWEST_WORDS
        and says_something(shorter)
        and not _UNFINISHED.search(shorter)
    ]


def _shorter_foreign(text: str, label: str) -> list[str]:
    """Returns the sentence without words such as "Yes," at its start, and then without what follows a comma."""
    sentence = text.removeprefix(f"{label}: ")
    rest = _FIRST_WORDS.sub("", sentence)
    first = rest.partition(", ")[0]
    return [
        f"{label}: {part}"
        for part in dict.fromkeys((rest, first))
        if part != sentence and length(part) >= _FEWEST_WORDS
    ]


def as_sentence(text: str, end: str = ".") -> str:
    """Returns the text with a capital and an end."""
    text = _capital(text.strip().rstrip(",;:"))
    return text if text.endswith((".", "?", "!", "\u3002", "\uff01", "\uff1f", "\u2026")) else f"{text}{end}"


class _Maker:
    """Makes the statements of single turns."""

    def __init__(self, turns: Sequence[Turn], parties: Parties) -> None:
        self._turns = turns
        self._parties = parties
        speakers = list(dict.fromkeys(turn.speaker for turn in turns))
        self._others = {one: other for one in speakers for other in speakers[::-1] if other != one}
        self._names = parties.words
        self._said = [[without_courtesies(clause, self._names) for clause in turn.clauses] for turn in turns]
        known = {word for name in (*parties.names.values(), parties.firm) for word in tokens(name)}
        self._introductory = known | STOP_WORDS | LIGHT_WORDS | _COURTEOUS if known else frozenset[str]()
        self._contentless = {stem(word) for word in known}

    def statements(self, index: int) -> list[Statement]:
        """Returns the statements of a turn."""
        return self._of_english(index) if self._turns[index].english else self._of_foreign(index)

    def _of_foreign(self, index: int) -> list[Statement]:
        """Returns the sentences of a turn as they are, with their speaker."""
        turn = self._turns[index]
        label = _capital(self._parties.short(turn.speaker).removeprefix("the "))
        long = len(self._turns) >= _FEWEST_TURNS
        edge = long and (index == 0 or index >= len(self._turns) - 2)
        sentences = [one for one in split_sentences(turn.text) if not long or length(one) >= _FEWEST_WORDS]
        # The one who calls says why at once, and at more length than a greeting.
        calls = long and turn.speaker != "outbound" and all(one.speaker != turn.speaker for one in self._turns[:index])
        why = max(sentences, key=length, default="") if calls else ""

        def factor(sentence: str) -> float:
            if sentence == why:
                return _OUTCOME
            return (_EDGE if edge else 1.0) * (_QUESTION if sentence.endswith("?") else 1.0)

        return [
            Statement(f"{label}: {sentence}", turn.speaker, factor(sentence), english=False, label=label)
            for sentence in sentences
        ]

    def _of_english(self, index: int) -> list[Statement]:
        """Returns the statements of an English turn."""
        turn = self._turns[index]
        question = self._question_before(index)
        refused = self._refused(index)
        found: list[Statement] = []
        answered = not question
        said_before = ""
        for clause, said in zip(turn.clauses, self._said[index], strict=True):
            earlier, said_before = said_before, f"{said_before} {clause}"
            if not answered and (word := yes_or_no(clause)) and not self._says_more(index):
                found += self._yes_or_no(turn, question, word)
                answered = True
            elif not said or not (says_something(said) or has_value(said)) or self._introduces(said):
                continue
            elif is_question(clause if clause.endswith("?") else said):
                commitment = commitment_in(said, earlier)
                found += self._action(turn, commitment) if commitment and commitment.who == OTHER else []
            elif not answered and (pair := self._answer(turn, question, said)):
                found.append(pair)
                answered = True
            elif commitment := commitment_in(said, earlier):
                found += [] if commitment.offer and refused else self._action(turn, commitment)
            elif not (refused and _WHEN.search(said)):
                found += self._point(turn, clause, said)
        return found

    def content(self, text: str) -> int:
        """Returns how many words of a text have content, without the speakers' names."""
        words = {stem(word) for word in tokens(text) if word not in STOP_WORDS and word not in LIGHT_WORDS}
        return len(words - self._contentless)

    def _point(self, turn: Turn, clause: str, said: str) -> list[Statement]:
        confirmed = _CONFIRMS.match(clause.strip())
        if confirmed and _WHEN.search(confirmed["what"]):
            said = confirmed["what"].rstrip(" .")
        elif not has_value(said) and (
            len(said.split()) < _FEWEST_IN_POINT or self.content(said) < _FEWEST_WITH_CONTENT
        ):
            return []
        outcome = bool(confirmed or _HAS_DONE.match(said))
        points = _POINTS_BACK.match(said) or (_POINTS.search(said) and self.content(said) < _ENOUGH_CONTENT)
        factor = _OUTCOME if outcome else _POINTING if points else 1.0
        if _WHEN.search(said) and _GIVES_OPTIONS.match(said):
            factor = _OPTIONS
        text = _capital(retold(said, self._short(turn), self._short_other(turn)))
        return [Statement(text, turn.speaker, factor, outcome=outcome, says_why=bool(_SAYS_WHY.search(clause)))]

    def _answer(self, turn: Turn, question: str, said: str) -> Statement | None:
        """Returns a short answer with what was asked for; None for an answer that stands alone."""
        value = value_of(said)
        if not value or value in self._names:
            return None
        answer = retold(value, self._short(turn), self._short_other(turn))
        if topic := topic_of(question):
            return Statement(f"{_capital(topic)}: {answer}", turn.speaker, _ANSWER)
        asked = self._asked(turn, question)
        return Statement(f"{asked} {_capital(answer)}", turn.speaker, _ANSWER) if asked else None

    def _yes_or_no(self, turn: Turn, question: str, word: str) -> list[Statement]:
        asked = self._asked(turn, question)
        return [Statement(f"{asked} {word.capitalize()}", turn.speaker, _QUESTION)] if asked else []

    def _asked(self, turn: Turn, question: str) -> str:
        """Returns the other's question, retold; "" for one that only asks to do something, or for a name."""
        asked = without_courtesies(question, self._names)
        if not asked or not says_something(asked) or _REQUEST.match(asked) or re.search(r"\bnames?\b", asked):
            return ""
        return as_sentence(retold(asked, self._short_other(turn), self._short(turn)), "?")

    def _action(self, turn: Turn, commitment: Commitment) -> list[Statement]:
        """Returns the action item; nothing for one that only points back ("I'll do that tonight")."""
        if self.content(commitment.what) < _FEWEST_WITH_CONTENT + bool(_POINTS.search(commitment.what)):
            return []
        speaker, other = self._short(turn), self._short_other(turn)
        owner = {SPEAKER: speaker, OTHER: other}.get(commitment.who, commitment.who)
        text = retold(commitment.what, speaker, other, named="" if commitment.whole else owner)
        return [Statement(text, turn.speaker, _ACTION, owner=_capital(owner))]

    def _question_before(self, index: int) -> str:
        """Returns the question with which the turn before ends."""
        if index and (before := self._turns[index - 1]).english:
            for clause, said in zip(reversed(before.clauses), reversed(self._said[index - 1]), strict=True):
                if said and is_question(clause if clause.endswith("?") else said):
                    return clause
        return ""

    def _refused(self, index: int) -> bool:
        """Returns True if the turn ends with a proposal that the other does not take."""
        if index + 1 >= len(self._turns) or not self._turns[index].clauses:
            return False
        return is_question(self._turns[index].clauses[-1]) and bool(_REFUSES.match(self._turns[index + 1].text))

    def _says_more(self, index: int) -> bool:
        """Returns True for an answer that is more than "yes" or "no"."""
        return any(one and says_something(one) and not is_question(one) for one in self._said[index])

    def _introduces(self, said: str) -> bool:
        """Returns True for a clause that says no more than the names that the summary begins with."""
        return bool(self._introductory) and all(word in self._introductory for word in tokens(said))

    def _short(self, turn: Turn) -> str:
        return self._parties.short(turn.speaker)

    def _short_other(self, turn: Turn) -> str:
        return self._parties.short(self._others.get(turn.speaker, "the other"))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
