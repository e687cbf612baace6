"""Finds text that a decoder repeats without end."""

import re
import zlib

_COMPRESSION_RATIO = 2.4  # Whisper's own limit
_LONGEST_PHRASE = 40  # words
# A phrase of at least so many words that stands so many times in a row is a loop. People do say "no, no, no, no".
_LIMITS = ((6, 3), (3, 4), (2, 6), (1, 10))


def is_loop(text: str) -> bool:
    """True if the text compresses too well or contains a phrase many times in a row, unlike speech."""
    data = text.strip().encode()
    if not data:
        return False
    return len(data) / len(zlib.compress(data)) > _COMPRESSION_RATIO or _is_repeated(_units(text))


def _units(text: str) -> list[str]:
    """Returns the words in lower case, or the characters of a text that is written without spaces."""
    words = re.findall(r"[\w']+", text.lower())
    return words if sum(map(len, words)) <= 12 * len(words) else list("".join(words))


def _is_repeated(units: list[str]) -> bool:
    for length in range(1, min(_LONGEST_PHRASE, len(units) // 3) + 1):
        times = next(times for least, times in _LIMITS if length >= least)
        same = 0  # units that equal the unit one phrase before
        for place in range(length, len(units)):
            same = same + 1 if units[place] == units[place - length] else 0
            if same >= length * (times - 1):
                return True
    return False
