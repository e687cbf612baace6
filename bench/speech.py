"""Measurements of speech to text on this machine, on calls whose words are known.

The calls are made of the demo calls and of the prompts and hold music of Debian's Asterisk packages, which are read
where they are installed:

    apt-get install asterisk-moh-opsound-wav asterisk-core-sounds-{en,fr,ru} asterisk-core-sounds-{en,fr,ru}-wav
    python -m bench.speech [PART ...]

Without the packages, only the parts and rows that do not need them are measured. All parts together take about half an
hour on two cores, so `python -m bench` runs only those that are named: `python -m bench speech`.
"""

import asyncio
import gzip
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from statistics import mean

import numpy as np
import soundfile
from rich.console import Console
from rich.table import Table

from pipelines.providers.base import TranscriptionJob
from pipelines.providers.common.utterances import SpokenWord
from pipelines.providers.whisper.hearing import REPETITION
from pipelines.providers.whisper.loops import is_loop
from pipelines.providers.whisper.transcriber import Whisper
from schemas.artifacts import Transcript
from tests.support.demo_calls import CALLS, TrueTurn, demo_call, normalised, word_error_rate
from tests.support.transcription_jobs import RATE, SPEAKERS, Samples, hold_music, noise, ring_back, silence

PROMPTS = {
    "en": Path("/usr/share/asterisk/sounds/en_US_f_Allison"),
    "fr": Path("/usr/share/asterisk/sounds/fr_CA_f_June"),
    "ru": Path("/usr/share/asterisk/sounds/ru_RU_f_IvrvoiceRU"),
}
PROMPT_TEXTS = "/usr/share/doc/asterisk-core-sounds-{0}/core-sounds-{0}.txt.gz"
HOLD_MUSIC = Path("/usr/share/asterisk/moh")

SENTENCES, HOLD_S = 200, 60
IN_A_FILE = 25  # sentences of each channel in one recording
SHORTEST_SENTENCE_S = 1.5
PAUSES_S = (1, 20, 60, 300)
NOISES_DB = (-72, -50)  # line noise in the pauses
SNRS_DB = (20, 10)
NEAR_S = 0.3  # a word may be so far outside of what it belongs to
LATE_S = (3 * 60 + 59) * 60

Row = tuple[str, str, str]


@dataclass(frozen=True)
class Sentence:
    """A sentence with its samples. text: its words, or those that were written about it."""

    text: str
    samples: Samples


@dataclass(frozen=True)
class Recording:
    """Samples [frames, 2] whose turns are known."""

    samples: Samples
    turns: tuple[TrueTurn, ...]


@cache
def _engine() -> Whisper:
    whisper = Whisper("base", Path(tempfile.mkdtemp(prefix="bench-speech-")))
    whisper.load()
    return whisper


def transcribed(samples: Samples) -> Transcript:
    """Returns the transcript of a call with these samples [frames, 2]."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "audio.wav"
        soundfile.write(path, samples, RATE, subtype="PCM_16")
        job = TranscriptionJob("key", "CA1", path, len(samples) * 1000 // RATE, SPEAKERS)
        return asyncio.run(_engine().transcribe(job)).transcript


def text(transcript: Transcript, channel: int) -> str:
    """Returns all words of a channel."""
    return " ".join(segment.text for segment in transcript.segments if segment.channel == channel)


def words(transcript: Transcript) -> Iterator[tuple[int, SpokenWord]]:
    """Yields the channel and the times of each word."""
    for segment in transcript.segments:
        for word in segment.words:
            yield segment.channel, SpokenWord(word.start_ms, word.end_ms, word.text, word.confidence)


def loops(transcript: Transcript) -> int:
    """Counts loops: those that were found and omitted, and those in the text."""
    return sum(one.reason == REPETITION for one in transcript.omitted) + sum(
        is_loop(segment.text) for segment in transcript.segments
    )


def is_near(turn: TrueTurn, channel: int, word: SpokenWord) -> bool:
    """True if the word's middle lies in the turn, give or take NEAR_S."""
    middle = (word.start_ms + word.end_ms) / 2000
    return channel == turn.channel and turn.start - NEAR_S <= middle <= turn.end + NEAR_S


def missing(transcript: Transcript, turns: Sequence[TrueTurn]) -> list[TrueTurn]:
    """Returns the turns without any word."""
    heard = list(words(transcript))
    return [turn for turn in turns if not any(is_near(turn, *one) for one in heard)]


def astray(transcript: Transcript, turns: Sequence[TrueTurn]) -> list[str]:
    """Returns the words outside every turn of their channel."""
    return [word.text for channel, word in words(transcript) if not any(is_near(turn, channel, word) for turn in turns)]


def kept(truth: str, heard: str) -> int:
    """Returns how many true words were heard, in their order."""
    true, found = normalised(truth), normalised(heard)
    row = [0] * (len(found) + 1)
    for word in true:
        before = row[:]
        for column, other in enumerate(found, 1):
            row[column] = before[column - 1] + 1 if word == other else max(before[column], row[column - 1])
    return row[-1]


@cache
def prompts(language: str) -> tuple[Sentence, ...]:
    """Returns the prompts with a text, the longest first; none if the package is not installed."""
    texts = Path(PROMPT_TEXTS.format(language))
    if not texts.is_file():
        return ()
    found = []
    for line in gzip.decompress(texts.read_bytes()).decode().splitlines():
        name, _, said = line.strip().partition(": ")
        path = PROMPTS[language] / f"{name}.wav"
        if (
            name.startswith(";")
            or not path.is_file()
            or not any(letter.isalpha() for letter in said)
            or said[0] in "[("
        ):
            continue
        found.append(Sentence(said.strip("“”"), soundfile.read(path, dtype="int16")[0]))
    return tuple(sorted(found, key=lambda one: (-len(one.samples), one.text)))


def demo_turns() -> list[Sentence]:
    """Returns the turns of the demo calls that are long enough to be a sentence."""
    return [
        Sentence(turn.text, call.samples[round(turn.start * RATE) : round(turn.end * RATE), turn.channel])
        for call in map(demo_call, CALLS)
        for turn in call.turns
        if turn.end - turn.start >= SHORTEST_SENTENCE_S
    ]


def line_noise(frames: int, level_db: float = -72) -> Samples:
    """Returns line noise on one channel, at this level below full scale."""
    level = 32768 * 10 ** (level_db / 20)
    return np.resize(np.random.default_rng(11).normal(0, level, 10 * RATE).round().astype(np.int16), frames)


def spoken(sentences: Sequence[Sentence], pause_s: float = 1) -> tuple[str, Samples]:
    """Returns the text and the samples of these sentences with pauses between them."""
    pause = line_noise(round(pause_s * RATE))
    parts = [part for one in sentences for part in (one.samples, pause)]
    return " ".join(one.text for one in sentences), np.concatenate(parts)


def both(*channels: Samples) -> Samples:
    """Returns samples [frames, 2] of two channels; the shorter one is filled with zeros."""
    out = np.zeros((max(map(len, channels)), 2), np.int16)
    for number, one in enumerate(channels):
        out[: len(one), number] = one
    return out


def demo() -> Iterator[Row]:
    """The demo calls and the prompts as they are."""
    rates = []
    _engine()
    started, spent = time.monotonic(), time.process_time()
    for call in map(demo_call, CALLS):
        heard = transcribed(call.samples)
        rates += [word_error_rate(call.said(channel), text(heard, channel)) for channel in (0, 1)]
    listed = ", ".join(f"{rate:.3f}" for rate in rates)
    yield "demo calls: word error rate", f"{mean(rates):.3f}", f"by channel: {listed}"
    yield _speed("demo calls", sum(demo_call(name).duration_ms for name in CALLS) / 1000, started, spent)
    for language in PROMPTS:
        if sentences := prompts(language)[:60]:
            halves = [spoken(sentences[at::2]) for at in (0, 1)]
            samples = both(*[samples for _, samples in halves])
            started, spent = time.monotonic(), time.process_time()
            heard = transcribed(samples)
            speed = _speed(f"prompts ({language})", len(samples) / RATE, started, spent)
            rates = [word_error_rate(said, text(heard, at)) for at, (said, _) in enumerate(halves)]
            yield f"prompts ({language}): word error rate", f"{mean(rates):.3f}", "60 prompts, pauses of 1 s"
            yield speed


def _speed(what: str, seconds: float, started: float, spent: float) -> Row:
    """Returns the row with the speed of the work since `started` (wall clock) and `spent` (processor time)."""
    cpu = time.process_time() - spent
    wall = time.monotonic() - started
    return f"{what}: speed", f"{seconds / cpu:.1f} x real time per core", f"{seconds / wall:.1f} x real time in all"


def hold() -> Iterator[Row]:
    """Sentences after generated hold music."""
    yield from _held("generated music", _sentences(), [hold_music()])


def _sentences() -> list[Sentence]:
    longest = max(0, SENTENCES - len(demo_turns()))
    sentences = (demo_turns() + list(prompts("en")[:longest]) + demo_turns() * SENTENCES)[:SENTENCES]
    random.Random(5).shuffle(sentences)
    return sentences


def hold_real() -> Iterator[Row]:
    """Sentences after the hold music of Debian's package."""
    if music := _real_music():
        yield from _held("Debian's hold music", _sentences(), list(music.values()))


def _real_music() -> Mapping[str, Samples]:
    return {path.stem: soundfile.read(path, dtype="int16")[0] for path in sorted(HOLD_MUSIC.glob("*.wav"))}


def _held(name: str, sentences: Sequence[Sentence], music: Sequence[Samples]) -> Iterator[Row]:
    """Each sentence follows HOLD_S of music and a pause of 0 to 5 s. Two channels hold different sentences."""
    chance = random.Random(6)
    lost: list[str] = []
    invented: list[str] = []
    omitted = right = alone = 0
    for first in range(0, len(sentences), 2 * IN_A_FILE):
        held, plain = [], []
        turns: list[TrueTurn] = []
        for channel in (0, 1):
            part = sentences[first + channel * IN_A_FILE : first + (channel + 1) * IN_A_FILE]
            samples = [line_noise(RATE)]
            at = len(samples[0])
            for number, one in enumerate(part):
                tune = music[chance.randrange(len(music))]
                played = np.resize(np.roll(tune, -chance.randrange(len(tune))), HOLD_S * RATE)
                pause = line_noise(round((first // 2 + number) % 11 / 2 * RATE))
                at += len(played) + len(pause)
                turns.append(TrueTurn(at / RATE, (at + len(one.samples)) / RATE, channel, one.text))
                samples += [played, pause, one.samples]
                at += len(one.samples)
            held.append(np.concatenate(samples))
            plain.append(spoken(part, 3)[1])
        heard, without = transcribed(both(*held)), transcribed(both(*plain))
        lost += [turn.text for turn in missing(heard, turns)]
        invented += astray(heard, turns)
        omitted += loops(heard)
        for channel in (0, 1):
            said = " ".join(turn.text for turn in turns if turn.channel == channel)
            right += kept(said, text(heard, channel))
            alone += kept(said, text(without, channel))
    shown = "; ".join(lost) or "none"
    yield f"{name}: sentences missing", f"{len(lost)} of {len(sentences)}", shown[:200]
    yield f"{name}: words kept", f"{right / alone:.1%}", f"{right} of {alone} without music; {omitted} loops"
    yield f"{name}: words outside a sentence", str(len(invented)), " ".join(invented)[:200]


def pauses() -> Iterator[Row]:
    """The demo calls with pauses after their turns."""
    plain = {name: transcribed(demo_call(name).samples) for name in CALLS}
    for pause_s, level_db in product(PAUSES_S, NOISES_DB):
        right = alone = repeated = silent = outside = 0
        for name in CALLS:
            call = demo_call(name)
            with_pauses = spread(name, line_noise(pause_s * RATE, level_db))
            heard = transcribed(with_pauses.samples)
            for channel in (0, 1):
                right += kept(call.said(channel), text(heard, channel))
                alone += kept(call.said(channel), text(plain[name], channel))
            repeated += loops(heard)
            silent += len(missing(heard, with_pauses.turns))
            outside += len(astray(heard, with_pauses.turns))
        yield (
            f"pauses of {pause_s} s, noise of {level_db} dB: words kept",
            f"{right / alone:.1%}",
            f"{right} of {alone}; {repeated} loops; {silent} turns missing; {outside} words outside a turn",
        )


def spread(name: str, filling: Samples) -> Recording:
    """Puts the filling after each turn of a demo call, unless the other speaker talks at that moment."""
    call = demo_call(name)
    ends = sorted(turn.end + 0.05 for turn in call.turns)
    cuts = [end for end in ends if not any(turn.start < end < turn.end for turn in call.turns)]
    parts: list[Samples] = []
    last = 0
    for cut in (round(cut * RATE) for cut in cuts):
        parts += [call.samples[last:cut], np.column_stack([filling, filling])]
        last = cut
    turns = []
    for turn in call.turns:
        shift = sum(cut <= turn.start for cut in cuts) * len(filling) / RATE
        turns.append(TrueTurn(turn.start + shift, turn.end + shift, turn.channel, turn.text))
    return Recording(np.concatenate([*parts, call.samples[last:]]), tuple(turns))


def nothing() -> Iterator[Row]:
    """Sounds without speech."""
    white = np.random.default_rng(8)
    sounds: dict[str, Samples] = {
        "silence": silence(),
        "line noise": noise(),
        "loud noise": white.normal(0, 3000, 60 * RATE).clip(-32768, 32767).astype(np.int16),
        "ring tone": np.tile(ring_back(), 3),
        "busy tone": (8000 * np.sin(np.arange(20 * RATE) * 2 * np.pi * 425 / RATE)).astype(np.int16)
        * (np.arange(20 * RATE) % RATE < RATE // 2).astype(np.int16),
        "generated music": np.tile(hold_music(), 3),
    } | dict(_real_music())
    for name, samples in sounds.items():
        heard = transcribed(both(samples, line_noise(len(samples), -50)))
        found = [word.text for _, word in words(heard)]
        yield f"{name}, {len(samples) / RATE:.0f} s: words", str(len(found)), " ".join(found)[:200]


def languages() -> Iterator[Row]:
    """Two languages on two channels."""
    english = np.concatenate([demo_call(name).samples[:, 0] for name in CALLS])
    spoken_by = {"en": (" ".join(demo_call(name).said(0) for name in CALLS), english)}
    spoken_by |= {language: spoken(prompts(language)[2:60:3]) for language in ("fr", "ru") if prompts(language)}
    for caller, agent in (("en", "fr"), ("en", "ru"), ("fr", "ru"), ("ru", "fr")):
        if not {caller, agent} <= set(spoken_by):
            continue
        pair = [spoken_by[caller], spoken_by[agent]]
        samples = both(*[one for _, one in pair])
        together = transcribed(samples)
        for channel, (said, _) in enumerate(pair):
            single = samples.copy()
            single[:, 1 - channel] = 0
            alone = word_error_rate(said, text(transcribed(single), channel))
            rate = word_error_rate(said, text(together, channel))
            named = {one.language for one in together.segments if one.channel == channel}
            yield (
                f"caller {caller}, agent {agent}: word error rate of {(caller, agent)[channel]}",
                f"{rate:.3f}",
                f"alone {alone:.3f}; languages {', '.join(sorted(map(str, named)))}",
            )


def long() -> Iterator[Row]:
    """A call of four hours with speech at the beginning and at 3:59:00."""
    for name in CALLS:
        call = demo_call(name)
        begin = call.samples[: 55 * RATE]
        samples = both(*[line_noise(4 * 3600 * RATE)] * 2)
        samples[: len(begin)] = begin
        samples[LATE_S * RATE : LATE_S * RATE + len(begin)] = begin
        started = time.monotonic()
        heard = list(words(transcribed(samples)))
        spent = time.monotonic() - started
        half = LATE_S * 500
        early = [(channel, word) for channel, word in heard if word.start_ms < half]
        late = [(channel, word) for channel, word in heard if word.start_ms >= half]
        same = [word.text for _, word in early] == [word.text for _, word in late]
        moved = [
            abs(later - earlier - LATE_S * 1000)
            for (_, one), (_, two) in zip(early, late, strict=False)
            for earlier, later in ((one.start_ms, two.start_ms), (one.end_ms, two.end_ms))
        ]
        edges = []
        for turn in call.turns:
            own = [word for channel, word in late if is_near(_later(turn), channel, word)]
            if turn.end <= 54 and own and turn.end - turn.start > SHORTEST_SENTENCE_S:
                edges.append(abs(own[0].start_ms - (turn.start + LATE_S) * 1000))
                edges.append(abs(own[-1].end_ms - (turn.end + LATE_S) * 1000))
        yield (
            f"four hours ({name}): words at 3:59:00",
            f"{max(moved)} ms moved at most",
            f"{len(late)} words, {'the same' if same else 'NOT the same'} as at the start; "
            f"first and last words are at most {max(edges):.0f} ms from their turn's edge; {spent:.0f} s of work",
        )


def _later(turn: TrueTurn) -> TrueTurn:
    return TrueTurn(turn.start + LATE_S, turn.end + LATE_S, turn.channel, turn.text)


def telephone() -> Iterator[Row]:
    """Telephone bandwidth and noise."""
    for snr_db in (None, *SNRS_DB):
        clean, noisy, silent = [], [], 0
        for call in map(demo_call, CALLS):
            spectrum = np.fft.rfft(call.samples.astype(np.float64), axis=0)
            hz = np.fft.rfftfreq(len(call.samples), 1 / RATE)
            spectrum[(hz < 300) | (hz > 3400)] = 0
            narrow = np.fft.irfft(spectrum, len(call.samples), axis=0)
            if snr_db is not None:
                level = np.sqrt((narrow[np.abs(narrow) > 500] ** 2).mean()) * 10 ** (-snr_db / 20)
                narrow = narrow + np.random.default_rng(12).normal(0, level, narrow.shape)
            heard = transcribed(np.clip(narrow, -32768, 32767).astype(np.int16))
            plain = transcribed(call.samples)
            silent += len(missing(heard, call.turns))
            for channel in (0, 1):
                clean.append(word_error_rate(call.said(channel), text(plain, channel)))
                noisy.append(word_error_rate(call.said(channel), text(heard, channel)))
        what = "no noise" if snr_db is None else f"noise {snr_db} dB below the speech"
        yield (
            f"300 to 3400 Hz, {what}: word error rate",
            f"{mean(noisy):.3f}",
            f"clean {mean(clean):.3f}; {silent} turns missing",
        )


PARTS: Mapping[str, Callable[[], Iterator[Row]]] = {
    "demo": demo,
    "hold": hold,
    "hold-real": hold_real,
    "pauses": pauses,
    "nothing": nothing,
    "languages": languages,
    "long": long,
    "telephone": telephone,
}


def rows(chosen: Sequence[str] = tuple(PARTS)) -> list[Row]:
    """Measures the chosen parts, or all, and returns the rows."""
    return [row for name in chosen for row in PARTS[name]()]


def main(chosen: Sequence[str]) -> int:
    """Prints the rows of the chosen parts, or all. Returns the exit code."""
    if unknown := set(chosen) - set(PARTS):
        print(f"unknown part {', '.join(sorted(unknown))}: one of {', '.join(PARTS)}", file=sys.stderr)
        return 2
    table = Table("what", "figure", "beside", title="speech", title_justify="left")
    for row in rows(chosen or tuple(PARTS)):
        table.add_row(*row)
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
