"""English words and phrases of telephone calls: which ones carry nothing, and how to remove them. Pure."""

import re
from collections.abc import Iterable
from functools import lru_cache

from pipelines.providers.extractive.coverage import word_set

# Words that English uses all the time and that its neighbours (German, Dutch, French, Spanish) do not have.
_TYPICAL = word_set(
    "the and you your it it's i i'm i'll my is are that that's this of to for have has with we do don't what can "
    "could would please thank thanks yes no okay how be not they there from about sure hello"
)
_TYPICAL_SHARE = 0.15  # English calls have 0.3 and more, other languages less than 0.05
_ENOUGH_WORDS = 8

# Words without content of their own.
STOP_WORDS = word_set(
    "a an the and or but so if then than that this these those there here it its it's i i'm i've i'll i'd me my "
    "mine we we're we've we'll us our you you're you've you'll your yours he he's his him she she's her they "
    "they're them their is are was were be been being am isn't aren't wasn't do does did don't doesn't didn't "
    "have has had haven't hasn't can could will would shall should may might must can't won't of to in on at by "
    "for from with as into about up out off over not no yes what which who whom when where why how any some all "
    "both each other another one ones because while also just very really too only even still again now well ok "
    "okay yeah oh ah um uh please thank thanks that's there's what's let's let us s t"
)
# Words that say little: any call has them.
LIGHT_WORDS = word_set(
    "get got getting go going come coming see look looking know think want take make put give tell say said let "
    "like thing things something anything everything work works find need use used try bit lot little way kind "
    "good great fine nice right sure moment minute second time day help call calling called speak spoke speaking "
    "ask possible keep same put bring number everybody everyone somebody someone else strange question questions "
    "wonder certainly perfect happen happened maybe actually believe guess"
)

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_SPOKEN_DIGITS = re.compile(rf"\b(?:{'|'.join(_DIGITS)})(?:,? (?:{'|'.join(_DIGITS)})){{3,}}\b", re.IGNORECASE)
_DATE = re.compile(
    r"\b(?:the )?(\d{1,2})(?:st|nd|rd|th) of (January|February|March|April|May|June|July|August|September|October|"
    r"November|December)\b(?:,(?= \d{4}\b))?"
)
_SPELLED = re.compile(r"(?<![\w'])(?:[A-Za-z0-9] ){3,}[A-Za-z0-9]\b")
_TAIL = re.compile(
    r",? (?:and|so|but) (?:it's|it is|this is|that's|that is)(?: \w+){0,3} (?:problem|urgent|fine|okay|ok|good|great"
    r"|annoying)$",
    re.IGNORECASE,
)
_TITLE = r"(?:mr|mrs|ms|miss|dr)\.? "
_SPACE = re.compile(r"\s+")
_FILLER = re.compile(r"\b(?:u+m+|u+h+|e+r+m*|h+m+|m{2,}|you know|i mean)\b[,.]*\s*", re.IGNORECASE)
_BETWEEN_COMMAS = re.compile(
    r"(\b(?:and|but|so|or))?,\s*(?:u+m+|u+h+|e+r+m*|h+m+|m{2,}|you know|i mean),", re.IGNORECASE
)
_CORRECTED = re.compile(r"\b(my|our|the|a|an|on|at) (?:\w+ ){0,2}\w+, i mean,? (\1 \w+),?", re.IGNORECASE)
_BARE_FILLER = re.compile(r"(?<=[\w']) (?:u+m+|u+h+|e+r+m*|h+m+) (?=[\w'])", re.IGNORECASE)
_STUTTER = re.compile(r"\b(\w+(?:['-]\w+)?(?: \w+)?),? \1\b(?=[ ,.?!]|$)", re.IGNORECASE)
_STUTTERED = word_set("is and i the a it it's to we you that in on but so my is it i'm he she")
_HEDGE = re.compile(
    r",? (?:just in case|really|actually|just|certainly|definitely|basically|also|even|as well|of course|by the way|"
    r"if you like|if that's possible|if possible|at the moment|for me|for you|thank god|or anything|and everything|"
    r"or something|kind of|sort of|a bit|then)(?=[ ,.?!]|$)",
    re.IGNORECASE,
)
_OPENING = re.compile(
    r"(?:good (?:morning|afternoon|evening|day)|okay|ok|right|all right|alright|well|so|oh|ah|aha|yes|yeah|yep|sure"
    r"|certainly|absolutely|of course|great|"
    r"perfect|good|excellent|wonderful|very good|i see|got it|no problem|no worries|no|and|but|then|now|also|just"
    r"|listen|sorry|"
    r"please|actually|basically|hi|hello|hey|thank you(?: (?:so|very) much)?|"
    r"thanks(?: a lot| so much)?|by the way|unfortunately|to be honest|because|that's because|"
    r"(?:i'm|i am) calling because|i can see(?: that)?|i see(?: that)?|in that case|"
    r"(?:that|it|this)(?:'s| is| sounds) (?:very |so |really |all )?(?:strange|odd|good|great|fine|fair|perfect|okay"
    r"|ok|nice|kind|right|correct|"
    r"helpful|wonderful)(?=[,.!])|"
    r"(?:and )?one (?:more|last|other) (?:thing|question)|"
    r"(?:just )?(?:one|a) (?:moment|second|minute)(?: please)?|hold on|hang on|don't worry)(?:[,.!;:]+\s*|\s+|$)",
    re.IGNORECASE,
)
_KEPT_OPENING = re.compile(
    r"(?:no (?!worries\b|problem\b)[a-z]|good (?!morning|afternoon|evening|day\b)[a-z]|great [a-z]|right [a-z]"
    r"|well [a-z]"
    r"|perfect [a-z]|please (?!bear|hold|wait)[a-z]|"
    r"(?:one|a) (?:moment|second|minute) [a-z])",
    re.IGNORECASE,
)
_EMPTY = re.compile(
    r"(?:"
    r"(?:i'm|i am|we're|we are) (?:so |very |really |terribly )?sorry.*"
    r"|(?:it|that|this|that all|all that)(?:'s| is| was| will be| would be| sounds?)? ?(?:a |an |very |really |all |so "
    r"|not |quite |absolutely )*(?:great|fine|fair|good|perfect|helpful|kind|ok|okay|strange|enough|lovely|wonderful"
    r"|right"
    r"|correct|useful|relief|problem|all|everything|it|that|works?|done|brilliant|nice|true|explains it"
    r"|said connected)\b.{0,24}"
    r"|(?:any (?:time|day)|.{0,20}) (?:will|would) be (?:great|perfect|fine|lovely|okay)"
    r"|(?:is|was|will|would) (?:that|it|this) .*|(?:that|it)'?s? (?:work|help)s?.*"
    r"|(?:i|we|you) (?:will|won't|do|did|don't|can|understand|agree|see|know)\b.{0,3}"
    r"|(?:i|we) (?:have|had|got) (?:a|another|one|one more|some) (?:quick |little |small )?(?:questions?|requests?)"
    r"|(?:i|we) hope .*|good luck.*|whatever .*"
    r"|i understand (?:it's|it is|that|your).*|i know .{0,12}"
    r"|(?:will|can) do|no (?:worries|problem)(?: at all)?|my pleasure|not at all|go ahead|of course|speaking"
    r"|(?:you're|you are) (?:very |most )?welcome.*|(?:you're|you are) (?:speaking|talking) (?:with|to).*"
    r"|(?:please )?(?:bear with|hold(?: on| the line)?|wait|stay on).*|(?:just )?(?:a|one) (?:moment|second|minute"
    r"|sec)\b.*"
    r"|let me\b.*|(?:i'll|i will|i'm going to) (?:just )?(?:check|see|look|have a look|take a look|be with you"
    r"|remember)\b.*"
    r"|(?:.*\b)?anything else\b.*|(?:have|enjoy) (?:a|your|the) (?:\w+ )?(?:day|weekend|evening|one|trip|time|holiday|"
    r"afternoon|week)\b.*|you too.*|see you.*|(?:good ?|bye[ -]?)*bye\b.*|take care.*|drive safely.*"
    r"|(?:thank you|thanks)\b.*|(?:you've|you have) been .*(?:help|kind).*|(?:i|we) (?:really )?(?:appreciate"
    r"|look forward).*"
    r"|how (?:can|may|could) (?:i|we) (?:help|assist)\b.*|what (?:can|may) (?:i|we) do for you.*|how are you\b.*"
    r"|what (?:happened|seems to be|would you like).*|(?:am i|i'm|are you) (?:speaking|talking)\b.*"
    r"|i can (?:certainly |surely )?(?:look into|check|do|live with|help)\b.*"
    r"|(?:i'm going to|we're going to|i'll) \w+ .*\bnow|it (?:takes|'ll take|should take|will take) (?:about "
    r"|around |some )?"
    r"(?:\w+ )?(?:seconds?|minutes?|moments?).*"
    r"|(?:i|we) have (?:it|that|this|your \w+|you) (?:here|in front of me)\b.*|yes you are"
    r"|(?:oh )?(?:my )?god.*|what a .*|(?:that|this|it)(?:'s| is) (?:a )?(?:really? |bit |real )*(?:urgent"
    r"|frustrating|annoying|problem).*"
    r")[.!?,;: ]*",
    re.IGNORECASE,
)
_PUNCTUATION = " ,.;:!?-\N{EN DASH}\N{EM DASH}\N{HORIZONTAL ELLIPSIS}"


def is_english(words: Iterable[str], otherwise: bool) -> bool:
    """Returns True for words of English speech. otherwise: the answer for too few words."""
    found = [word.strip(_PUNCTUATION).lower() for word in words]
    if len(found) < _ENOUGH_WORDS:
        return otherwise
    return sum(word in _TYPICAL for word in found) >= _TYPICAL_SHARE * len(found)


def without_fillers(text: str) -> str:
    """Removes "um" and its like and what a speaker says twice in stuttering; writes spelled numbers and dates short."""
    text = text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    # Without commas around it, a filler is the only sign of where one sentence ends and the next begins.
    text = _BETWEEN_COMMAS.sub(lambda found: found[1] or ",", _CORRECTED.sub(r"\2", text))
    text = _FILLER.sub("", _BARE_FILLER.sub("\N{HORIZONTAL ELLIPSIS} ", text))
    text = _DATE.sub(r"\1 \2", _SPELLED.sub(_joined, _SPOKEN_DIGITS.sub(_figures, text)))
    text = _STUTTER.sub(lambda found: found[1] if _STUTTERED.issuperset(found[1].lower().split()) else found[0], text)
    return _SPACE.sub(" ", text).strip()


def _joined(found: re.Match[str]) -> str:
    spelled = found[0].replace(" ", "")
    return spelled.upper() if sum(char.isdigit() for char in spelled) > 1 else found[0]


def _figures(found: re.Match[str]) -> str:
    return "".join(str(_DIGITS.index(word)) for word in re.findall(r"[a-z]+", found[0].lower()))


def without_courtesies(clause: str, names: Iterable[str] = ()) -> str:
    """Removes openings ("okay, so"), hedges, and names that only address somebody; "" if nothing else was said."""
    at_start, at_end = _addressing(tuple(names))
    text = at_end.sub("", clause.strip(_PUNCTUATION)).strip(_PUNCTUATION)
    before = None
    while before != text:
        before = text
        if not _KEPT_OPENING.match(text):
            text = _OPENING.sub("", text, count=1) if _OPENING.match(text) else text
        text = _TAIL.sub("", at_start.sub("", text).strip(_PUNCTUATION))
    if _EMPTY.fullmatch(text):
        return ""
    return _HEDGE.sub("", f" {text}").strip(_PUNCTUATION)


@lru_cache(8)
def _addressing(names: tuple[str, ...]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Returns the patterns of somebody's name at the start and at the end of a clause."""
    name = rf"(?:{_TITLE})?(?:{'|'.join(map(re.escape, names))})" if names else r"(?!)"
    at_start = rf"^(?:it's |that's |this is |my name is |my name's |i'm )?{name}(?:[,.!]+\s*| and | (?=from )|$)"
    return re.compile(at_start, re.IGNORECASE), re.compile(rf"(?:^|[, ]+){name}$", re.IGNORECASE)


def says_something(clause: str) -> bool:
    """Returns True for a clause with at least one word that has content."""
    words = [word.strip(_PUNCTUATION).lower() for word in clause.split()]
    return any(word not in STOP_WORDS and word not in LIGHT_WORDS and word for word in words)
