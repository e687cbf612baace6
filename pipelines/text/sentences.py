"""Splits text into sentences. Pure, and without a dictionary: it works in every language with punctuation."""

import re

# Latin punctuation ends a sentence before white space, Chinese, Japanese and Devanagari also without it.
_END = re.compile(r"[.!?…][\"')\]]*(?=\s)|[\u3002\uff01\uff1f\u0964]+")
# Abbreviations with a full stop in the middle of a sentence. A wrong match joins two sentences, which is harmless.
_ABBREVIATION = re.compile(r"\b(?:mr|mrs|ms|dr|st|prof|sr|jr|no|vs|approx|[a-z])\.$", re.IGNORECASE)
# An ordinal number in a date ("bis zum 21. März"), or before a word in lower case ("am 3. tag").
_ORDINAL = re.compile(
    r"(?<!\S)\d{1,2}\.(?=\s+(?:[a-zà-ÿ]|(?:Januar|Jänner|Februar|Feber|März|April|Mai|Juni|Juli|August|September|Oktober"
    r"|November|Dezember)\b))"
)
_ABBREVIATION_CHARS = 8  # the longest abbreviation, with its full stop


def split_sentences(text: str) -> list[str]:
    """Returns the sentences of the text in order, without empty ones and without white space around them."""
    return [text[start:end] for start, end in sentence_spans(text)]


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Returns the start and end of each sentence of the text, in characters."""
    ordinals = {match.end() for match in _ORDINAL.finditer(text)}
    ends = [
        match.end()
        for match in _END.finditer(text)
        if match.end() not in ordinals
        and not _ABBREVIATION.search(text, max(0, match.end() - _ABBREVIATION_CHARS), match.end())
    ]
    spans = []
    start = 0
    for end in [*ends, len(text)]:
        sentence = text[start:end]
        if sentence.strip():
            spans.append((end - len(sentence.lstrip()), start + len(sentence.rstrip())))
        start = end
    return spans
