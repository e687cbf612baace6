"""Splits what somebody says into clauses that stand alone. Pure; for English, also without punctuation."""

import re

from pipelines.text.sentences import split_sentences

_SUBJECT = r"(?:i|we|you|he|she|they|it|there|that|this|the|my|your|our|nobody|everybody)(?:'(?:m|s|re|ve|ll|d))?"
# ", and I", ", so the", ", but it": the second half has a subject of its own.
_JOINT = re.compile(
    rf",\s+(?:and|but|so|or|because)\s+(?={_SUBJECT}\b|please\b|what\b|could\b|can\b|will\b)|\s*;\s+|\s+-\s+",
    re.IGNORECASE,
)
# A name or a value, and then a sentence of its own without a full stop.
_PLEASE = re.compile(r",\s+(?=please \w+|could you\b|can you\b|you can\b|you'll\b|nobody\b|i haven't\b)", re.IGNORECASE)
# Where a run of words without punctuation can be cut.
_VERB = (
    r"(?:'m|'s|'re|'ve|'ll|'d| am| is| are| was| were| have| has| had| will| would| can| could| don't| didn't| tried"
    r"| need"
    r"| want| get| got| see| recommend)\b"
)
_SOFT = re.compile(
    rf"\s+(?=(?:and |but |so |because )?(?:i|we|you|he|she|they|it|there|that){_VERB}"
    r"|(?:and |but )?(?:can|could|would|do|did|are|is|may) (?:you|i|we|it|that|there)\b"
    r"|(?:okay|alright|yes|yeah|no|sure|thank you|thanks|please|right|hold on|perfect)\b"
    r"|(?:and |but |so )(?:my|your|the|our|please)\b|(?:this is|my name is|the \w+ number is) )",
    re.IGNORECASE,
)
# Words after which a clause has not ended: "the certificate the vpn needs", "so that I can".
_UNFINISHED = re.compile(
    r"\b(?:if|that|because|so|and|but|or|when|where|what|which|who|while|until|before|after|the|a|an|my|your|to|of"
    r"|see|says|"
    r"think|sure|said|as|than|then|there|i'd|number|needs?)$",
    re.IGNORECASE,
)
_POINTING = re.compile(r"\b(?:it|them|him|her|he|she|they|one|this)\b", re.IGNORECASE)
_LONG_RUN = 9  # words without punctuation after which a cut is looked for


def clauses_of(text: str) -> list[str]:
    """Returns the clauses in order. A clause that points back ("and I need to move it") stays with the one before."""
    found: list[str] = []
    for sentence in split_sentences(text):
        for run in _runs(sentence):
            found += _joints(run)
    return [clause for clause in found if clause.strip()]


def _joints(sentence: str) -> list[str]:
    pieces: list[str] = []
    start = 0
    for match in sorted([*_JOINT.finditer(sentence), *_PLEASE.finditer(sentence)], key=lambda match: match.start()):
        if match.start() < start:
            continue
        rest = re.split(r",\s", sentence[match.end() :], maxsplit=1)[0]
        if _POINTING.search(rest) and not re.match(r"please\b", rest, re.IGNORECASE):
            continue
        pieces.append(sentence[start : match.start()])
        start = match.end()
    return [*pieces, sentence[start:]]


def _runs(sentence: str) -> list[str]:
    """Cuts a long sentence without punctuation inside; any other stays whole."""
    longest = max(len(run.split()) for run in re.split(r"[,;:]", sentence))
    if longest <= _LONG_RUN or (sentence.rstrip()[-1:] in ".?!" and longest <= 2 * _LONG_RUN):
        return [sentence]
    pieces: list[str] = []
    start = 0
    for match in _SOFT.finditer(sentence):
        if not _UNFINISHED.search(sentence[start : match.start()]):
            pieces.append(sentence[start : match.start()])
            start = match.end()
    return [*pieces, sentence[start:]]
