"""Sentences in which somebody commits to something, or is asked to do something after the call. Pure.

Patterns over English; other languages give no action items rather than wrong ones. What is done while both still
speak ("please hold", "could you confirm your name", "let me check") is no action item.
"""

import re

_I_OR_WE = r"\b(?:i|we)"
_COMMITS = re.compile(
    # I'll also apply, we will send, I'm going to refund; "I can book" is an offer and counts: the call's end tells.
    rf"{_I_OR_WE}(?:'ll| will| shall)(?: \w+ly| also| then| just)? \w+"
    rf"|{_I_OR_WE}(?:'m| am|'re| are)(?: \w+ly| also| now)? going to \w+"
    rf"|{_I_OR_WE} can (?:also )?(?:put|book|send|bring|arrange|schedule|offer|call|email|refund|transfer)\b"
    rf"|{_I_OR_WE}(?:'ve| have) (?:also |now |just )?(?:booked|scheduled|arranged|ordered|cancell?ed|requested|sent)\b"
)
_ASKED = re.compile(
    r"\bplease \w+"
    r"|\byou(?:'ll| will) (?:need|have|receive|get|hear)\b"
    r"|\byou (?:need|have|must|should) (?:to )?\w+"
    r"|\b(?:make sure|don't forget|do not forget|remember) (?:to|that|you)\b"
    r"|\b(?:can|could|would|will) you (?:also |then )?"
    r"(?:send|call|email|mail|bring|book|schedule|cancel|arrange|forward|ship|refund)\b"
)
_DURING_THE_CALL = re.compile(
    r"\bplease (?:bear|hold|wait|stay|confirm|tell|spell|repeat|say|go ahead|listen)\b"
    rf"|{_I_OR_WE}(?:'ll| will| am going to|'m going to) (?:just )?(?:check|look|see|have a look|be with you|ask|"
    r"wait|hold|need|take a look|try|be (?:happy|glad|honest)|say)\b"
    r"|\bgoing to \w+ .*\bnow\b"
    r"|\byou (?:have|'ve) (?:a|been|any|got|had)\b"
)
_FEWEST_WORDS = 4  # "I will." commits to something that another sentence names


def is_commitment(sentence: str) -> bool:
    """Whether the sentence is an action item by its wording."""
    text = sentence.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    if len(text.split()) < _FEWEST_WORDS or _DURING_THE_CALL.search(text):
        return False
    return bool(_COMMITS.search(text) or _ASKED.search(text))
