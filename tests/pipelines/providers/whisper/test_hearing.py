"""How the text of a chunk is judged, and what happens to one that is doubtful."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.providers.common.utterances import SpokenWord
from pipelines.providers.whisper.decoder import Decoded, Decoder
from pipelines.providers.whisper.hearing import (
    Hearing,
    batches_of,
    is_doubtful,
    is_invented,
    language_of,
    lost_ms,
    placed,
    usual_language,
    without_crammed,
)
from pipelines.providers.whisper.transcriber import Whisper
from pipelines.providers.whisper.voice import RATE_HZ, Channel, Chunk, Region, Samples
from tests.support.demo_calls import demo_call

LOOP = "and I'm going to do that " * 8


def chunk(*regions_s: tuple[float, float], start_s: float = 0) -> Chunk:
    """A chunk with regions of speech from second to second."""
    regions = tuple(Region(round(start * RATE_HZ), round(end * RATE_HZ)) for start, end in regions_s)
    return Chunk(round(start_s * RATE_HZ), regions[-1].end + RATE_HZ, regions)


def word(start_ms: int, end_ms: int, text: str = " word") -> SpokenWord:
    """A word at that time."""
    return SpokenWord(start_ms, end_ms, text, 0.9)


def times(words: Sequence[SpokenWord]) -> list[tuple[int, int]]:
    """Start and end of each."""
    return [(one.start_ms, one.end_ms) for one in words]


def test_speech_without_words_is_noticed() -> None:
    """Two sentences of two seconds, words for the first only: two seconds are lost. With words in both nothing is. This
    is how a decoder that stops after the first sentence is caught."""
    both = chunk((1, 3), (4, 6))
    first = [word(1_000, 2_000), word(2_000, 3_000)]

    assert lost_ms(both, []) == 2_000
    assert lost_ms(both, first) == 2_000
    assert lost_ms(both, [*first, word(4_200, 5_800)]) == 0
    assert is_doubtful(both, Decoded(tuple(first), " word word", "en", -0.1, 0))


@pytest.mark.parametrize(
    ("confidences", "logprob", "no_speech", "invented"),
    [
        ((0.03, 0.97), -0.88, 0.81, True),
        ((0.28,), -0.46, 0.96, True),
        ((0.01,), -1.75, 0.81, True),
        ((0.1, 0.21), -0.96, 0.61, True),
        ((0.31,), -0.81, 0.27, False),
        ((0.97,), -0.21, 0.41, False),
        ((0.43, 0.8, 0.9), -0.57, 0.43, False),
        ((), 0.0, 0.9, False),
    ],
)
def test_words_of_music_are_invented(
    confidences: Sequence[float], logprob: float, no_speech: float, invented: bool
) -> None:
    """Values that the decoder gave for hold music ("Thank you.", "you", "Yeah.", "Bye bye.") and for prompts of a
    single word. A failure means that words appear during music, or that short answers are lost."""
    words = tuple(SpokenWord(0, 100, " word", confidence) for confidence in confidences)

    assert is_invented(Decoded(words, " word", "en", logprob, no_speech)) == invented


def test_words_are_moved_to_the_speech() -> None:
    """A word that begins in the pause before its sentence is cut to the sentence; one that lies in a pause goes to the
    nearest speech; one that fits is left alone; the order stays."""
    both = chunk((1, 3), (4.5, 6))
    heard = [word(0, 200), word(1_200, 1_500), word(2_800, 3_050), word(3_500, 4_900), word(6_500, 7_000)]

    assert times(placed(both, heard)) == [
        (1_000, 1_200),
        (1_200, 1_500),
        (2_800, 3_050),
        (4_400, 4_900),
        (5_500, 6_000),
    ]


def test_a_last_number_ends_with_the_speech() -> None:
    """Two numbers end 300 ms and 600 ms before their speech does: the first is extended. The second is not, because its
    speech may belong to a word that is missing. A word without digits, or before another word, keeps its end."""
    spoken = chunk((1, 3), (4, 6), (7, 9))
    number = {"text": " 1988."}
    heard = [
        word(1_000, 1_900, **number), word(2_000, 2_700, **number), word(4_000, 5_400, **number), word(7_000, 8_700)
    ]  # fmt: skip

    expected = [(1_000, 1_900), (2_000, 3_000), (4_000, 5_400), (7_000, 8_700)]
    assert times(placed(spoken, heard)) == expected


def test_a_sentence_that_is_repeated_without_audio_is_removed() -> None:
    """Four words at one moment without length follow a sentence: they are removed. A single word without length is
    kept. Without this rule a sentence stands twice in the transcript."""
    said = [word(0, 200), word(200, 200), word(250, 500)]

    assert without_crammed([*said, *[word(900, 900)] * 4]) == said


def test_the_language_of_a_channel_is_that_of_most_speech() -> None:
    """A short chunk that seems French does not outweigh long ones in English."""
    assert usual_language([{"fr": 0.9, "en": 0.1}, {"en": 0.6, "fr": 0.4}], [RATE_HZ, 20 * RATE_HZ]) == "en"


@pytest.mark.parametrize(
    ("found", "speech_s", "expected"),
    [
        ({"fr": 0.97, "en": 0.01}, 6, "fr"),
        ({"fr": 0.97, "en": 0.01}, 2, "en"),
        ({"fr": 0.7, "en": 0.01}, 6, "en"),
        ({"fr": 0.9, "en": 0.1}, 6, "en"),
    ],
)
def test_another_language_needs_proof(found: dict[str, float], speech_s: int, expected: str) -> None:
    """A chunk changes the language only with enough speech and no doubt. A wrong change gives nonsense; a missed one
    gives a wrong spelling of one stretch."""
    assert language_of(found, "en", speech_s * RATE_HZ) == expected


def test_batches_are_of_similar_length() -> None:
    """The longest come first, at most eight together, none much shorter than the first: the decoder's window is as long
    as the longest one of a batch. Nothing is left out."""
    chunks = [chunk((0, length)) for length in (1, 20, 2, 19, 3, *[10] * 9)]
    batches = batches_of(chunks)

    assert sorted(one.length for batch in batches for one in batch) == sorted(one.length for one in chunks)
    assert [[one.speech // RATE_HZ for one in batch] for batch in batches] == [[20, 19], [10] * 8, [10], [3, 2], [1]]


def test_the_first_batch_shows_the_language() -> None:
    """A channel with little speech in pieces of different length: the first batch has enough of it to detect the
    language, although the window is then too long for some."""
    batches = batches_of([chunk((0, length)) for length in (1, 2, 12, 4, 3)])

    assert [[one.speech // RATE_HZ for one in batch] for batch in batches] == [[12, 4], [3, 2], [1]]


class Repeating(Decoder):
    """Whisper, but its first texts are replaced by a loop, since no real audio gives one for certain."""

    def __init__(self, engine: Any, loops: int) -> None:
        super().__init__(engine, "base")
        self.loops = loops
        self.temperatures: list[float] = []

    def decode(
        self, encoded: Any, audio: Sequence[Samples], languages: Sequence[str], temperature: float = 0
    ) -> list[Decoded]:
        self.temperatures.append(temperature)
        found = super().decode(encoded, audio, languages, temperature)
        if len(self.temperatures) > self.loops:
            return found
        return [Decoded(one.words, LOOP, one.language, one.logprob, one.no_speech) for one in found]


@pytest.fixture
def sentence(whisper: Whisper) -> tuple[Channel, Chunk]:
    """A sentence of a demo call, as a channel with one chunk."""
    turn = demo_call("broadband_outage").turns[0]
    samples = demo_call("broadband_outage").samples[:, turn.channel]
    channel = Channel(np.ascontiguousarray(samples[: round((turn.end + 0.5) * 8000)]), 8000)
    region = Region(round(turn.start * RATE_HZ), round(turn.end * RATE_HZ))
    return channel, Chunk(0, channel.length, (region,))


@pytest.mark.parametrize(("loops", "temperatures"), [(1, [0, 0]), (2, [0, 0, 0.2]), (4, [0, 0, 0.2, 0.4, 0.6])])
def test_a_loop_is_decoded_again(
    whisper: Whisper, sentence: tuple[Channel, Chunk], loops: int, temperatures: list[float]
) -> None:
    """The first texts of a sentence are loops. It is decoded again, first in the whole window, then at temperatures
    that rise, until the text is none; its words are then those that were said."""
    channel, only = sentence
    decoder = Repeating(whisper._engine, loops)
    heard = Hearing(channel, decoder, lambda: None).rest([only], "en", detect=False)

    assert decoder.temperatures == temperatures
    assert heard.omitted == []
    assert "northwind" in "".join(word.text for word in heard.words).lower()


def test_a_loop_that_stays_is_omitted(whisper: Whisper, sentence: tuple[Channel, Chunk]) -> None:
    """Every text is a loop: no word of it is in the result, and the chunk is reported as omitted."""
    channel, only = sentence
    heard = Hearing(channel, Repeating(whisper._engine, 99), lambda: None).rest([only], "en", detect=False)

    assert (heard.words, heard.omitted) == ([], [only])


def test_work_stops_when_nobody_needs_it(whisper: Whisper, sentence: tuple[Channel, Chunk], tmp_path: Path) -> None:
    """`proceed` raises: nothing is decoded any more."""

    def proceed() -> None:
        raise InterruptedError

    decoder = Repeating(whisper._engine, 0)
    with pytest.raises(InterruptedError):
        Hearing(sentence[0], decoder, proceed).rest([sentence[1]], "en", detect=False)
    assert decoder.temperatures == []
