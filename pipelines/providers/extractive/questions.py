"""Questions of English calls, and the short answers that say nothing without them. Pure."""

import re

_ASKS = re.compile(
    r"(?:(?:and|so|but|okay|also)[, ]+)*(?:(?:for \w+|since|at|on|in|from|until|with|to)[, ]+)?"
    r"(?:(?:what|which|when|where|who|why|how|whose)\b"
    r"|(?:do|does|did|is|are|was|were|can|could|may|would|will|shall|should|have|has|isn't|aren't|don't|doesn't|won't|"
    r"can't) (?:not )?(?:you|i|we|it|he|she|they|the|your|my|our|there|that|this|anybody|nobody|anything|parking)\b)",
    re.IGNORECASE,
)
_THING = r"(?:your |the |an? |my )?"
_TOPICS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\b(?:could|can|may) i (?:please )?(?:have|take|get|ask for) {_THING}(?P<topic>.+)",
        rf"\b(?:could|can|would|will) you (?:please )?(?:confirm|tell me|give me|read me|spell|verify"
        rf"|say) {_THING}(?P<topic>.+)",
        r"\bwhat(?:'s| is| was| are) (?:your |the |my )(?P<topic>.+)",
        r"\bwhich (?P<topic>\w+(?: \w+)?) (?:do|does|did|is|are|should|shall|was|would|will)\b.*",
        r"\b(?:do you have|have you got) (?:your |the |an? )(?P<topic>.+)",
        r"^(?:when|where|what time) (?:are|do|did|will|would|can) (?:you|i|we) (?P<topic>\w+.*)",
        r"\bis (?:the|your) (?P<topic>.+?) \w+, .*\bor\b.*",
        r"\bis (?:the|your) (?P<topic>\w+(?: \w+){0,3}?) \w+ or \w+.*",
    )
)
_TOPIC_ENDS = re.compile(
    r"[,.?!]| please\b| for me\b| so that\b| again\b| on the (?:account|bottom)\b| then\b", re.IGNORECASE
)
_NAME = re.compile(r"(?:full |first |last |family )?names?(?: on the \w+)?$", re.IGNORECASE)
_ANSWERS = re.compile(
    r"(?:it's|it is|it was|it'll be|it has been|it's been|that's|that is|that would be|they're|they are"
    r")\s+(?P<value>.+)",
    re.IGNORECASE,
)
_CLAUSE_LIKE = re.compile(
    r"\b(?:i|we|you|it|he|she|they|there)(?:'\w+)?\b|\b(?:is|are|was|were|has|have|ends|says)\b", re.IGNORECASE
)
_YES_NO = re.compile(
    r"(yes|yeah|yep|no|nope|not yet|exactly|correct)\b[ ,.!]*(?:it is|it does|i do|i have|they are|i am|it isn't"
    r"|please)?[ .!]*",
    re.IGNORECASE,
)
_MOST_WORDS_OF_TOPIC = 8
_MOST_WORDS_OF_ANSWER = 12
_VALUE = re.compile(r"\d|\b(?:zero|one|two|three|four|five|six|seven|eight|nine)\b", re.IGNORECASE)


def is_question(clause: str) -> bool:
    """Returns True for a question, with its mark or without."""
    return clause.rstrip().endswith("?") or bool(_ASKS.match(clause.strip()))


def topic_of(question: str) -> str:
    """Returns what a question asks for ("account number"), or "" if it has no such form. Names are not a topic."""
    for pattern in _TOPICS:
        found = pattern.search(question)
        if not found:
            continue
        topic = _TOPIC_ENDS.split(found["topic"].strip(), maxsplit=1)[0]
        things = [re.sub(r"^(?:your|the|an?|my) ", "", thing) for thing in re.split(r",? and ", topic)]
        kept = [thing for thing in things if thing and not _NAME.match(thing)]
        short = " and ".join(kept)
        if short and len(short.split()) <= _MOST_WORDS_OF_TOPIC:
            return re.sub(r"\b(?:your|my|our) ", "", short)
    return ""


def value_of(answer: str) -> str:
    """Returns the bare answer: "447-291-0" of "it's 447-291-0"; "" for a sentence that stands alone."""
    found = _ANSWERS.fullmatch(answer.strip())
    value = found["value"] if found else answer.strip()
    if len(value.split()) > _MOST_WORDS_OF_ANSWER or (not found and _CLAUSE_LIKE.search(value)):
        return ""
    return value.rstrip(" .,!")


def has_value(text: str) -> bool:
    """Returns True for a text with a number in it."""
    return bool(_VALUE.search(text))


def yes_or_no(answer: str) -> str:
    """Returns "yes" or "no" for an answer that is only that, otherwise ""."""
    found = _YES_NO.fullmatch(answer.strip())
    return "" if not found else "no" if found[1].lower().startswith("no") else "yes"
