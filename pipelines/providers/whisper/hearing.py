"""Transcribes the speech of one channel: chooses languages, checks each text and decodes doubtful chunks again.

A text is doubtful if it repeats itself, if it leaves out speech that was detected, or if the decoder itself is unsure.
Then the chunk is decoded in the window that Whisper was trained on, then in parts, then at higher temperatures.
A text that still repeats itself is omitted, and the transcript says so.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from statistics import fmean, geometric_mean

from pipelines.providers.common.utterances import SpokenWord
from pipelines.providers.whisper.decoder import Decoded, Decoder
from pipelines.providers.whisper.loops import is_loop
from pipelines.providers.whisper.voice import RATE_HZ, Channel, Chunk, Region, Samples, halves

_BATCH = 8  # chunks that are decoded together
_SIMILAR = 0.7  # chunks of a batch are at least so long as its longest one, which decides how long the window is

# Music that passes the voice detector makes the decoder invent words of low probability. The first two are Whisper's
# own limits. Real speech, down to single words, was never seen above 0.45 of no speech, and music never below 0.53.
_NO_SPEECH = 0.6
_LOW_LOGPROB = -1.0
_INVENTED = 0.3  # words with a lower mean confidence are invented
_INVENTED_IN_NO_SPEECH = 0.5  # the same, for the geometric mean: "Thank" of 0.03 and "you" of 0.97
_TEMPERATURES = (0.2, 0.4, 0.6, 0.8, 1.0)

_LOST_MS = 1_500  # speech without words for so long is missing in the text
_REACH_MS = 300  # a word explains speech this far before and after it
_CRAMMED = 4  # so many words at one moment without any length are a repetition
_SLACK_MS = 100  # a word may reach so far beyond the speech that was detected
_SHORTENED_MS = 400  # a number before a pause may end so much later than the aligner says

_ENOUGH = 15 * RATE_HZ  # so much speech shows the language of a channel
_SWITCH_SPEECH = 4 * RATE_HZ  # less speech does not show that the language changed
_SWITCH_CERTAIN = 0.9  # least probability of the new language
_SWITCH_EXCLUDED = 0.05  # greatest probability of the channel's language

REPETITION = "repetition"
ECHO = "echo"


@dataclass(frozen=True, slots=True)
class Heard:
    """Words of a channel, and chunks whose text is omitted because it repeats itself."""

    words: list[SpokenWord] = field(default_factory=list)
    omitted: list[Chunk] = field(default_factory=list)

    def __add__(self, other: "Heard") -> "Heard":
        return Heard(self.words + other.words, self.omitted + other.omitted)


@dataclass(frozen=True, slots=True)
class Hearing:
    """Transcribes chunks of one channel.

    proceed: raises an exception when the result is no longer needed. echoes: echo of the other channel, which is
    replaced with silence: the margin of a chunk may contain it.
    """

    channel: Channel
    decoder: Decoder
    proceed: Callable[[], None]
    echoes: Sequence[Region] = ()

    def first(self, chunks: Sequence[Chunk], language: str | None) -> tuple[str, Heard]:
        """Returns the channel's language and the words of its longest chunks. language: None means detect it."""
        audio = [self._audio(chunk) for chunk in chunks]
        encoded = self.decoder.encode(audio)
        if language is not None:
            return language, self._checked(chunks, self.decoder.decode(encoded, audio, [language] * len(chunks)))
        found = self._languages(encoded, len(chunks))
        usual = usual_language(found, [chunk.speech for chunk in chunks])
        languages = [language_of(one, usual, chunk.speech) for one, chunk in zip(found, chunks, strict=True)]
        return usual, self._checked(chunks, self.decoder.decode(encoded, audio, languages))

    def rest(self, chunks: Sequence[Chunk], usual: str, *, detect: bool) -> Heard:
        """Returns the words of other chunks. usual: the channel's language; detect: another language is possible."""
        self.proceed()
        audio = [self._audio(chunk) for chunk in chunks]
        encoded = self.decoder.encode(audio)
        languages = [usual] * len(chunks)
        if detect and max(chunk.speech for chunk in chunks) >= _SWITCH_SPEECH:
            found = self._languages(encoded, len(chunks))
            languages = [language_of(one, usual, chunk.speech) for one, chunk in zip(found, chunks, strict=True)]
        return self._checked(chunks, self.decoder.decode(encoded, audio, languages))

    def _audio(self, chunk: Chunk) -> Samples:
        audio = self.channel.read(chunk.start, chunk.end)
        for echo in self.echoes:
            audio[max(0, echo.start - chunk.start) : max(0, echo.end - chunk.start)] = 0
        return audio

    def _languages(self, encoded: object, chunks: int) -> list[Mapping[str, float]]:
        if not self.decoder.is_multilingual:
            return [{"en": 1.0}] * chunks
        return list(self.decoder.languages(encoded))

    def _checked(self, chunks: Sequence[Chunk], decoded: Sequence[Decoded]) -> Heard:
        heard = Heard()
        for chunk, one in zip(chunks, decoded, strict=True):
            heard += self._improved(chunk, one) if is_doubtful(chunk, one) else _taken(chunk, one)
        return heard

    def _improved(self, chunk: Chunk, first: Decoded) -> Heard:
        """Returns the words of a chunk whose text is doubtful."""
        self.proceed()
        audio = [self._audio(chunk)]
        encoded = self.decoder.encode(audio, whole=True)
        (again,) = self.decoder.decode(encoded, audio, [first.language])
        if not is_doubtful(chunk, again):
            return _taken(chunk, again)
        if parts := halves(chunk):
            return sum((self.rest([part], first.language, detect=False) for part in parts), Heard())
        best = max((first, again), key=lambda one: (not is_loop(one.text), -lost_ms(chunk, one.words), one.logprob))
        for temperature in _TEMPERATURES:
            if not is_loop(best.text):
                break
            self.proceed()
            (best,) = self.decoder.decode(encoded, audio, [first.language], temperature)
        return _taken(chunk, best)


def batches_of(chunks: Sequence[Chunk]) -> list[list[Chunk]]:
    """Groups the chunks into batches of similar length, the longest ones first.

    The language is detected in the first batch, which therefore has enough speech for that if the channel has.
    """
    batches: list[list[Chunk]] = []

    def more(batches: list[list[Chunk]]) -> bool:
        return len(batches) == 1 and sum(chunk.speech for chunk in batches[0]) < _ENOUGH

    for chunk in sorted(chunks, key=lambda one: -one.length):
        if (
            batches
            and len(batches[-1]) < _BATCH
            and (chunk.length >= _SIMILAR * batches[-1][0].length or more(batches))
        ):
            batches[-1].append(chunk)
        else:
            batches.append([chunk])
    return batches


def usual_language(found: Sequence[Mapping[str, float]], speech: Sequence[int]) -> str:
    """Returns the language of most of the speech. found: the probability of each language, by chunk."""
    total: dict[str, float] = {}
    for one, length in zip(found, speech, strict=True):
        for language, probability in one.items():
            total[language] = total.get(language, 0) + probability * length
    return max(total, key=lambda language: total[language])


def language_of(found: Mapping[str, float], usual: str, speech: int) -> str:
    """Returns the channel's usual language, unless the chunk has enough speech and is certainly in another."""
    other = max(found, key=lambda language: found[language])
    certain = found[other] >= _SWITCH_CERTAIN and found.get(usual, 0) <= _SWITCH_EXCLUDED
    return other if certain and speech >= _SWITCH_SPEECH else usual


def is_doubtful(chunk: Chunk, decoded: Decoded) -> bool:
    """True if another attempt may give a better text."""
    return decoded.logprob < _LOW_LOGPROB or is_loop(decoded.text) or lost_ms(chunk, decoded.words) >= _LOST_MS


def is_invented(decoded: Decoded) -> bool:
    """True if the decoder made up the text for audio without speech, such as music."""
    confidences = [word.confidence for word in decoded.words]
    if decoded.no_speech > _NO_SPEECH:
        return decoded.logprob < _LOW_LOGPROB or (
            bool(confidences) and geometric_mean([max(one, 0.001) for one in confidences]) < _INVENTED_IN_NO_SPEECH
        )
    return bool(confidences) and fmean(confidences) < _INVENTED


def lost_ms(chunk: Chunk, words: Sequence[SpokenWord]) -> int:
    """Returns the longest speech in the chunk that has no word. Times of words are relative to the chunk."""
    longest = 0
    for start, end in (_ms_within(chunk, region) for region in chunk.regions):
        free = start
        for word in sorted(words, key=lambda one: one.start_ms):
            if word.end_ms + _REACH_MS <= free or word.start_ms - _REACH_MS >= end:
                continue
            longest = max(longest, word.start_ms - _REACH_MS - free)
            free = max(free, word.end_ms + _REACH_MS)
        longest = max(longest, end - free)
    return longest


def without_crammed(words: Sequence[SpokenWord]) -> list[SpokenWord]:
    """Removes words that share one moment and have no length.

    The decoder sometimes repeats a sentence once, which is too little for a loop. The aligner then finds no audio for
    the second copy and puts all its words at the end.
    """
    return [
        word
        for (start, end), run in groupby(words, key=lambda one: (one.start_ms, one.end_ms))
        if (same := list(run)) and (start < end or len(same) < _CRAMMED)
        for word in same
    ]


def placed(chunk: Chunk, words: Sequence[SpokenWord]) -> list[SpokenWord]:
    """Moves the words into the speech that was detected, in their order; times are relative to the chunk.

    A word that reaches into a pause is cut off there; one that lies in a pause moves to the nearest speech.
    """
    regions = [_ms_within(chunk, region) for region in chunk.regions]
    moved: list[SpokenWord] = []
    for word in words:
        start, end = max(regions, key=lambda region: _overlap(word, region))
        if _overlap(word, (start, end)) > 0:
            first, last = max(word.start_ms, start - _SLACK_MS), min(word.end_ms, end + _SLACK_MS)
        else:
            length = min(word.end_ms - word.start_ms, end - start)
            first, last = (start, start + length) if word.end_ms <= start else (end - length, end)
        first = max(first, moved[-1].start_ms if moved else first)
        moved.append(replace(word, start_ms=first, end_ms=max(first, last)))
    return _until_the_end(moved, [end for _, end in regions])


def _until_the_end(words: Sequence[SpokenWord], ends: Sequence[int]) -> list[SpokenWord]:
    """Extends a number at the end of speech to that end.

    The aligner ends a number too early if it was said in several words. Other words keep their ends, because the
    detected speech may end too late, for example where music follows.
    """
    starts = [*(word.start_ms for word in words[1:]), None]
    return [
        replace(
            word,
            end_ms=max(
                word.end_ms,
                *(end for end in ends if 0 < end - word.end_ms <= _SHORTENED_MS and (start is None or start >= end)),
                0,
            ),
        )
        if any(char.isdigit() for char in word.text)
        else word
        for word, start in zip(words, starts, strict=True)
    ]


def _overlap(word: SpokenWord, region: tuple[int, int]) -> int:
    """Returns the time that the word and the region have in common; below 0, the time between them."""
    return min(word.end_ms, region[1]) - max(word.start_ms, region[0])


def _taken(chunk: Chunk, decoded: Decoded) -> Heard:
    """Returns the words of the best text found, on the channel's timeline."""
    if is_invented(decoded):
        return Heard()
    if is_loop(decoded.text):
        return Heard(omitted=[chunk])
    offset_ms = chunk.start * 1000 // RATE_HZ
    return Heard(
        [
            replace(
                word,
                start_ms=word.start_ms + offset_ms,
                end_ms=word.end_ms + offset_ms,
                language=decoded.language,
            )
            for word in placed(chunk, without_crammed(decoded.words))
        ]
    )


def _ms_within(chunk: Chunk, region: Region) -> tuple[int, int]:
    """Returns start and end of the region in ms from the chunk's start."""
    return (region.start - chunk.start) * 1000 // RATE_HZ, (region.end - chunk.start) * 1000 // RATE_HZ
