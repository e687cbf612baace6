"""Finds what somebody commits to, or is asked to do, after the call. Pure.

The patterns are English; other languages give no action items rather than wrong ones. Things that are done while both
still speak ("please hold", "could you confirm your name", "let me check") are not action items.
"""

import re
from dataclasses import dataclass

SPEAKER, OTHER = "speaker", "other"

_I_OR_WE = r"\b(?:i|we)"
_WILL = re.compile(
    rf"{_I_OR_WE}(?:'ll| will| shall)(?: (?:definitely|certainly|probably|gladly|immediately)| also| then| just"
    rf"| now)? (?P<what>\w+.*)"
)
_GOING_TO = re.compile(rf"{_I_OR_WE}(?:'m| am|'re| are)(?: \w+ly| also| now)? going to (?P<what>\w+.*)")
# "I can book" is an offer and counts; the end of the call decides.
_OFFER = re.compile(
    rf"{_I_OR_WE} can (?:also )?(?P<what>(?:put|book|send|bring|arrange|schedule|offer|call|email|refund|transfer|"
    r"deliver|replace|repair|reserve|extend)\b.*)"
)
_DONE = re.compile(
    rf"{_I_OR_WE}(?:'ve| have) (?:also |now |just )?"
    r"(?P<what>(?:booked|scheduled|arranged|ordered|cancell?ed|requested|sent|put \w+ down)\b.*)"
)
_PASSIVE = re.compile(r"\byou(?:'ll| will)(?: also)? (?:receive|get|hear)\b.*")
_SOMEBODY = re.compile(
    r"^(?:the|a|an|our|my) (?P<who>driver|engineer|technician|nurse|doctor|colleague|manager|supervisor|team|courier|"
    r"specialist|mechanic|plumber|electrician|pharmacy|bank|shop|\w+ (?:team|department|service)) "
    r"(?:will|is going to|can) (?P<what>\w+.*)"
)
_THEY = re.compile(r"^(?:he|she|they|somebody|someone) (?:will|can)(?: also)? (?P<what>\w+.*)")
_ROLE = re.compile(
    r"\b(?:the|a|an|our|your) (driver|engineer|technician|nurse|doctor|colleague|manager|supervisor|specialist"
    r"|mechanic|"
    r"courier|plumber|electrician)\b",
    re.IGNORECASE,
)
_ASKED = tuple(
    re.compile(pattern)
    for pattern in (
        r"\bplease (?:also |then )?(?P<what>\w+.*)",
        r"\byou(?:'ll| will) (?:need|have) to (?P<what>\w+.*)",
        r"\byou (?:need|have|must|should) to (?P<what>\w+.*)",
        r"\byou (?:must|should) (?P<what>\w+.*)",
        r"\byou(?:'ll| will)? (?P<what>need \w+.*)",
        r"\b(?:make sure|don't forget|do not forget|remember) (?:to |that you |you )(?P<what>\w+.*)",
        r"\b(?:can|could|would|will) you (?:also |then |please )*"
        r"(?P<what>(?:send|call|email|mail|bring|book|schedule|cancel|arrange|forward|ship|refund)\b.*)",
    )
)
_PATTERNS = (
    *((pattern, SPEAKER) for pattern in (_WILL, _GOING_TO, _OFFER, _DONE)),
    *((pattern, OTHER) for pattern in _ASKED),
)
_DURING_THE_CALL = re.compile(
    r"\bplease (?:bear|hold|wait|stay|confirm|tell|spell|repeat|say|go ahead|listen|try to connect)\b|^please$"
    rf"|{_I_OR_WE}(?:'ll| will| am going to|'m going to) (?:just |also )?(?:check|look|see|have a look|be with you|"
    r"ask(?! (?!you\b)[\w. ]{2,25} to\b)|wait|hold|need|take (?:a look|it|the|that)\b|try|be\b|say|have|remember)\b"
    r"|\bgoing to \w+ .*\bnow\b|\bi'd like\b"
    r"|\byou (?:have|'ve) (?:a|been|any|got|had)\b|\b(?:will|can|do|does|did|should|shall) (?:i|we)\b|\bif you like\b"
)
# "I'll inform his teacher": the content is in another sentence.
_TELLS_NOTHING = re.compile(
    r"(?:inform|remind|let|tel{2}) (?:(?!\b(?:that|about|to|when|if|what|where|know)\b)[\w', .])+(?: know)?"
)
_FEWEST_WORDS = 4  # "I will." commits to something that another sentence names
_REASON = re.compile(r"(?:and |so |but )?(?P<why>(?:because|for|after|due|as) [^,]{3,40}?),? $")
_NOTES = re.compile(r"^(?:write|note) (?:that|it|this) down(?: and |$)", re.IGNORECASE)  # done while they speak
_LONGEST_START = 3  # words before the commitment that do not matter ("so then I'll …")


@dataclass(frozen=True, slots=True)
class Commitment:
    """Task after the call.

    who: SPEAKER, OTHER or a third party ("the driver"). what: the words of the speaker without the subject; if `whole`
    is true, the subject is included. offer: the task depends on the answer.
    """

    who: str
    what: str
    whole: bool = False
    offer: bool = False


def commitment_in(clause: str, before: str = "") -> Commitment | None:
    """Returns the commitment that the clause expresses by its wording, or None.

    before: the speaker's previous clause, which a pronoun such as "she" can refer to.
    """
    text = clause.strip(" .!?,").replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    low = text.lower()
    if len(low) != len(text) or len(low.split()) < _FEWEST_WORDS or _DURING_THE_CALL.search(low):
        return None
    return _by_somebody_else(text, low, before) or _by_either(text, low)


def _by_somebody_else(text: str, low: str, before: str) -> Commitment | None:
    roles = _ROLE.findall(before)
    if found := _SOMEBODY.search(low):
        who = found["who"]
    elif roles and (found := _THEY.search(low)):
        who = roles[-1].lower()
    else:
        return None
    return Commitment(f"the {who}", text[found.start("what") :])


def _by_either(text: str, low: str) -> Commitment | None:
    if found := _PASSIVE.search(low):
        return Commitment(SPEAKER, text[found.start() :], whole=True)
    for pattern, who in _PATTERNS:
        found = pattern.search(low)
        if not found:
            continue
        what = _NOTES.sub("", text[found.start("what") :])
        if _TELLS_NOTHING.fullmatch(what.lower()):
            return None
        start = low[: found.start()]
        reason = _REASON.fullmatch(start)
        if reason:
            what = f"{what} {text[reason.start('why') : reason.end('why')]}"
        elif len(start.split()) > _LONGEST_START:
            return Commitment(who, text, whole=True, offer=pattern is _OFFER)
        return Commitment(who, what, offer=pattern is _OFFER)
    return None
