"""Retells in the third person: "I've changed my address" becomes "Ana has changed their address".

Each person is named once in a clause, and is "they" from then on, since nobody says whether Ana is "she". Pure; for
English.
"""

import re

from pipelines.providers.extractive.coverage import word_set

_ADVERB = r"(?:still|already|never|always|now|only|usually|both)"
_PRONOUN = re.compile(
    rf"\b(?P<who>i|we|you)(?P<short>'m|'re|'ve|'ll|'d)?(?![\w'])(?P<adverb>(?: {_ADVERB})?)"
    r"(?: (?!(?:my|our|your|me|us|i|we|you)\b)(?P<verb>[a-z]+(?:n't)?))?(?![\w'])"
    r"|\b(?P<other>my|our|your|me|us|myself|ourselves|yourself|mine|ours|yours)\b(?!')",
    re.IGNORECASE,
)
_INVERTED = re.compile(r"^((?:wh\w+|how(?: \w+)?) )?(do|are|am|have|were|don't|haven't) (i|we|you)\b", re.IGNORECASE)
_SPEAKERS = word_set("i we my our me us myself ourselves mine ours")
_THIRD = {
    "am": "is", "are": "is", "were": "was", "have": "has", "do": "does", "don't": "doesn't", "haven't": "hasn't",
    "aren't": "isn't", "weren't": "wasn't", "go": "goes", "try": "tries",
}  # fmt: skip
_PLURAL = {"am": "are", "was": "were", "wasn't": "weren't"}
_SHORT = {"'ve": "have", "'ll": "will", "'d": "would", "'m": "are", "'re": "are"}
# Verbs without an ending in the third person: auxiliary ones, and past tenses that do not end with "ed".
_UNCHANGED = word_set(
    "can could will would shall should may might must cannot was had did went got took made said thought came saw "
    "gave found told bought paid left lost sent heard kept knew meant met put ran spoke wrote felt held stood broke "
    "brought built chose drove ate fell forgot grew hit let read sat set slept spent understood won cut shut hurt cost "
    "just also really all probably maybe"
)
# After the first and before the second "you" is an object.
_BEFORE_OBJECT = re.compile(
    r"\b(?:to|for|with|at|from|about|of|give|gave|send|sent|tell|told|call|help|put|let|offer|charge|see|ask|meet|show|"
    r"thank|bring|get|and)$",
    re.IGNORECASE,
)
_AFTER_OBJECT = word_set(
    "a an the to for in on at by with from about and or but if when where whether how what that this before after "
    "until because as into today tomorrow tonight again back down up out off over once next my your our some any more "
    "here there"
)
_AFTER_MODAL = re.compile(r"\b(?:can|could|will|would|shall|should|may|did|do|does|didn't|can't) $", re.IGNORECASE)
_REFLEXIVE = {"myself": "themselves", "ourselves": "themselves", "yourself": "themselves"}


def retold(clause: str, speaker: str, other: str, *, named: str = "") -> str:
    """Returns the clause in the third person. speaker, other: names. named: the one whom the line names already."""
    teller = _Teller(speaker, other, named)
    text = _INVERTED.sub(teller.inverted, clause)
    return _PRONOUN.sub(teller.pronoun, text)


class _Teller:
    """Replaces the pronouns of one clause."""

    def __init__(self, speaker: str, other: str, named: str) -> None:
        self._speaker, self._other = speaker, other
        self._named = {named} if named else set()
        self._subject = ""  # of the verb before

    def inverted(self, found: re.Match[str]) -> str:
        """Gives a question the word order of a statement: "when are you" becomes "when the agent is"."""
        return f"{found[1] or ''}{_THIRD[found[2].lower()]} {self._name(found[3])}"

    def pronoun(self, found: re.Match[str]) -> str:
        """Replaces any other pronoun."""
        return self._possessive(found["other"].lower()) if found["other"] else self._subject_and_verb(found)

    def _subject_and_verb(self, found: re.Match[str]) -> str:
        """Returns "Ana has" for "I have", and the like."""
        pronoun, short = found["who"].lower(), (found["short"] or "").lower()
        adverb, verb = found["adverb"], found["verb"] or ""
        before = found.string[: found.start()]
        if pronoun == "you" and not short and self._is_object(before.rstrip(), verb):
            return f"{self._name(pronoun)}{adverb}{f' {verb}' if verb else ''}"
        person = self._person(pronoun)
        known, again = person in self._named, person == self._subject
        self._named.add(person)
        self._subject = person
        first = _SHORT[short] if short else verb
        rest = f" {verb}" if short and verb else ""
        if again and first and re.search(r"\band $", before):
            return f"{adverb.lstrip()} {_form(first, plural=False)}{rest}".lstrip()
        # After "could" and the like the verb has no ending.
        plural = known or bool(_AFTER_MODAL.search(before))
        if short:  # I'm still at home: Ana is still at home
            return f"{'they' if known else person} {_form(first, plural=plural)}{adverb}{rest}"
        return f"{'they' if known else person}{adverb} {_form(first, plural=plural)}".rstrip()

    def _possessive(self, word: str) -> str:
        """Returns "Ana's" for "my", and the like."""
        if word in _REFLEXIVE:
            return _REFLEXIVE[word]
        if word in ("me", "us"):
            return self._name(word)
        person = self._person(word)
        if person in self._named:
            return "theirs" if word in ("mine", "ours", "yours") else "their"
        self._named.add(person)
        return f"{person}'s"

    def _name(self, pronoun: str) -> str:
        """Returns the name, or "them" for somebody who has been named."""
        person = self._person(pronoun)
        if person in self._named:
            return "them"
        self._named.add(person)
        return person

    def _person(self, pronoun: str) -> str:
        return self._speaker if pronoun.lower() in _SPEAKERS else self._other

    @staticmethod
    def _is_object(before: str, after: str) -> bool:
        return not after or after.lower() in _AFTER_OBJECT or bool(_BEFORE_OBJECT.search(before))


def _form(verb: str, *, plural: bool) -> str:
    """Returns the form of a verb after a name, or after "they" if `plural`."""
    low = verb.lower()
    if plural:
        return _PLURAL.get(low, verb)
    if low in _THIRD:
        return _THIRD[low]
    if not low or low in _UNCHANGED or (low.endswith(("ed", "n't")) and not low.endswith("eed")):
        return verb
    return f"{verb}es" if low.endswith(("sh", "ch", "s", "x", "z")) else f"{verb}s"
