"""Splitting text into sentences. Pure, and without a dictionary: it works wherever punctuation does."""

import re

# Latin punctuation ends a sentence before white space, Chinese, Japanese and Devanagari also without it.
_END = re.compile(r"[.!?…][\"')\]]*(?=\s)|[\u3002\uff01\uff1f\u0964]+")
# What is written with a full stop in the middle of a sentence; a wrong guess joins two sentences, which is harmless.
_ABBREVIATION = re.compile(r"\b(?:mr|mrs|ms|dr|st|prof|sr|jr|no|vs|approx|[a-z])\.$", re.IGNORECASE)
_ABBREVIATION_CHARS = 8  # how far before the full stop one can begin


def split_sentences(text: str) -> list[str]:
    """The sentences of the text, in order, without white space around them; none is empty."""
    return [text[start:end] for start, end in sentence_spans(text)]


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Where the sentences of the text are: start and end of each, in characters."""
    ends = [
        match.end()
        for match in _END.finditer(text)
        if not _ABBREVIATION.search(text, max(0, match.end() - _ABBREVIATION_CHARS), match.end())
    ]
    spans = []
    start = 0
    for end in [*ends, len(text)]:
        sentence = text[start:end]
        if sentence.strip():
            spans.append((end - len(sentence.lstrip()), start + len(sentence.rstrip())))
        start = end
    return spans
