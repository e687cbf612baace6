"""The demo calls, and the error rate of transcripts against their true words."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

CALLS = ("broadband_outage", "clinic_reschedule")

# fmt: off
_SMALL = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)
_TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}
_ORDINALS = {
    "first": 1, "second": 2, "third": 3, "fifth": 5, "eighth": 8, "ninth": 9, "twelfth": 12, "twentieth": 20,
}
# fmt: on
_ABBREVIATED = {
    "dr": "doctor",
    "mr": "mister",
    "ok": "okay",
    "alright": "all right",
    "xray": "x ray",
    "xrays": "x rays",
}


@dataclass(frozen=True, slots=True)
class TrueTurn:
    """A true turn of a speaker. Times are seconds from the start of the call."""

    start: float
    end: float
    channel: int
    text: str


@dataclass(frozen=True, slots=True)
class DemoCall:
    """A demo call: 16-bit samples [frames, 2] (inbound, outbound) at 8 kHz. Each is a value of mu-law."""

    name: str
    samples: npt.NDArray[np.int16]
    rate_hz: int
    turns: tuple[TrueTurn, ...]

    @property
    def duration_ms(self) -> int:
        """Returns the length in ms, rounded down like the recorder does."""
        return len(self.samples) * 1000 // self.rate_hz

    def said(self, channel: int) -> str:
        """Returns all words of a channel."""
        return " ".join(turn.text for turn in self.turns if turn.channel == channel)

    def write_wav(self, path: Path) -> Path:
        """Writes the call as 16-bit PCM WAV, like the recorder."""
        soundfile.write(path, self.samples, self.rate_hz, format="WAV", subtype="PCM_16")
        return path


def demo_call(name: str) -> DemoCall:
    """Returns one of CALLS."""
    folder = files("audiotext") / "demo_calls"
    truth = json.loads((folder / f"{name}.json").read_text("utf-8"))
    with as_file(folder / f"{name}.flac") as path:
        samples, rate_hz = soundfile.read(path, dtype="int16", always_2d=True)
    turns = tuple(TrueTurn(turn["start"], turn["end"], turn["channel"], turn["text"]) for turn in truth["turns"])
    return DemoCall(name, samples, rate_hz, turns)


def normalised(text: str) -> list[str]:
    """Returns words that can be compared: lower case, without punctuation, numbers as single digits.

    Whisper writes "$15", "9.30", "14th" and "447-291-0" where the true text has words; both become the same digits. An
    e-mail address becomes its spoken words.
    """
    text = text.lower().replace("@", " at ").replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    text = re.sub(r"\$\s?(\d+)", r"\1 dollars", text)
    text = re.sub(r"(?<=\w)\.(?=[a-z])", " dot ", text)
    text = re.sub(r"(\d)(st|nd|rd|th)\b", r"\1", text)
    text = re.sub(r"\b(\d+)\.(\d+)", r"\1 \2", text)
    words = re.findall(r"[\w']+", text)
    expanded = [part for word in words for part in _ABBREVIATED.get(word.strip("'"), word.strip("'")).split()]
    return _digits(expanded)


def errors(truth: Sequence[str], heard: Sequence[str]) -> int:
    """Returns the least number of inserted, deleted and replaced words."""
    row = list(range(len(heard) + 1))
    for index, word in enumerate(truth, 1):
        diagonal, row[0] = row[0], index
        for column, other in enumerate(heard, 1):
            diagonal, row[column] = (
                row[column],
                min(row[column] + 1, row[column - 1] + 1, diagonal + (word != other)),
            )
    return row[-1]


def word_error_rate(truth: str, heard: str) -> float:
    """Returns the errors per true word."""
    words = normalised(truth)
    return errors(words, normalised(heard)) / len(words)


def _digits(words: Iterable[str]) -> list[str]:
    """Returns number words and numerals as digits: forty five, 45 → 4 5; nineteen eighty eight → 1 9 8 8."""
    out: list[str] = []
    tens = 0
    for word in [*words, ""]:
        value = _value(word)
        if tens and value is not None and 0 < value < 10:
            out += str(tens + value)
            tens = 0
            continue
        if tens:
            out += str(tens)
            tens = 0
        if word in _TENS:
            tens = _TENS[word]
        elif value is not None:
            out += str(value)
        elif word.isdigit():
            out += word
        elif word:
            out.append(word)
    return out


def _value(word: str) -> int | None:
    if word in _SMALL:
        return _SMALL.index(word)
    if word in _ORDINALS:
        return _ORDINALS[word]
    stem = word.removesuffix("th")
    return _SMALL.index(stem) if word != stem and stem in _SMALL else None
