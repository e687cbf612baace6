"""Whisper's decoder for chunks of audio: languages, text and the times of words.

The encoder's time grows with the length of its window. Whisper pads to 30 s; a few seconds of silence after the speech
give nearly the same text in a fraction of the time. If the text is doubtful, the chunk is decoded again with all 30 s.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_suppressed_tokens, merge_punctuations

from pipelines.providers.common.utterances import SpokenWord
from pipelines.providers.whisper.voice import RATE_HZ, Samples
from pipelines.runtime.errors import PermanentError

BEAM = 5
_SAMPLED = 5  # texts that are sampled at a temperature above 0; the most probable one is taken
_WHOLE_S = 30  # the window that Whisper was trained on
_PADDING_S = 3
_SHORTEST_S = 10  # in a shorter window the decoder repeats itself
_MOST_TOKENS_PER_S = 20  # more than in fast speech of any language
_PREPENDED = "\"'“¿([{-"
_APPENDED = "\"'.。,，!！?？:：”)]}、"  # noqa: RUF001


@dataclass(frozen=True, slots=True)
class Decoded:
    """Text of a chunk. Times of the words are in ms from the chunk's start.

    logprob: mean of the tokens. no_speech: probability that the chunk has no speech.
    """

    words: tuple[SpokenWord, ...]
    text: str
    language: str
    logprob: float
    no_speech: float


class Decoder:
    """Decodes chunks with a loaded model. Threads may share it."""

    def __init__(self, engine: Any, name: str) -> None:
        self._engine = engine
        self._name = name
        self._tokenizers: dict[str, tuple[Tokenizer, list[int], Any]] = {}

    @property
    def is_multilingual(self) -> bool:
        """False for a model that knows only English."""
        return bool(self._engine.model.is_multilingual)

    def encode(self, audio: Sequence[Samples], *, whole: bool = False) -> Any:
        """Returns the encoder's output for these chunks, each at most 30 s. whole: pads them to 30 s."""
        longest_s = max(map(len, audio)) / RATE_HZ
        window_s = _WHOLE_S if whole else min(_WHOLE_S, max(_SHORTEST_S, np.ceil(longest_s) + _PADDING_S))
        size = int(window_s) * RATE_HZ
        features = [self._engine.feature_extractor(np.pad(one, (0, size - len(one))))[..., :-1] for one in audio]
        return self._engine.encode(np.stack(features))

    def languages(self, encoded: Any) -> list[dict[str, float]]:
        """Returns the probability of each language, by chunk."""
        return [
            {token[2:-2]: probability for token, probability in found}
            for found in self._engine.model.detect_language(encoded)
        ]

    def decode(
        self, encoded: Any, audio: Sequence[Samples], languages: Sequence[str], temperature: float = 0
    ) -> list[Decoded]:
        """Returns the text of each chunk. Raises PermanentError for a language unknown to the model."""
        if len(set(languages)) == 1:
            return self._decode(encoded, audio, languages[0], temperature)
        outputs = np.array(encoded)
        found: dict[int, Decoded] = {}
        for language in dict.fromkeys(languages):
            places = [place for place, other in enumerate(languages) if other == language]
            part = type(encoded).from_array(np.ascontiguousarray(outputs[places]))
            found |= zip(places, self._decode(part, [audio[at] for at in places], language, temperature), strict=True)
        return [found[place] for place in range(len(audio))]

    def _decode(self, encoded: Any, audio: Sequence[Samples], language: str, temperature: float) -> list[Decoded]:
        tokenizer, prompt, suppressed = self._tokenizer(language)
        longest_s = max(map(len, audio)) / RATE_HZ
        how = (
            {"beam_size": 1, "num_hypotheses": _SAMPLED, "sampling_topk": 0, "sampling_temperature": temperature}
            if temperature
            else {"beam_size": BEAM}
        )
        results = self._engine.model.generate(
            encoded,
            [prompt] * len(audio),
            max_length=min(self._engine.max_length, len(prompt) + 20 + int(longest_s * _MOST_TOKENS_PER_S)),
            return_scores=True,
            return_no_speech_prob=True,
            suppress_tokens=suppressed,
            **how,
        )
        tokens = [result.sequences_ids[0] for result in results]
        texts = [[token for token in one if token < tokenizer.eot] for one in tokens]
        frames = [min(-(-len(one) * 100 // RATE_HZ), 3000) for one in audio]
        aligned = self._engine.find_alignment(tokenizer, texts, encoded, frames)
        decoded = []
        for result, text, alignment in zip(results, texts, aligned, strict=True):
            merge_punctuations(alignment, _PREPENDED, _APPENDED)
            length = len(result.sequences_ids[0])
            decoded.append(
                Decoded(
                    words=tuple(_word(word) for word in alignment if word["word"].strip()),
                    text=tokenizer.decode(text),
                    language=language,
                    logprob=result.scores[0] * length / (length + 1),
                    no_speech=result.no_speech_prob,
                )
            )
        return decoded

    def _tokenizer(self, language: str) -> tuple[Tokenizer, list[int], Any]:
        """Returns the tokenizer of a language, the prompt for it, and the tokens that are not text."""
        if language not in self._tokenizers:
            try:
                tokenizer = Tokenizer(self._engine.hf_tokenizer, self.is_multilingual, "transcribe", language)
            except ValueError as error:
                raise PermanentError(
                    f"whisper {self._name} does not support the language {language!r}: set another language"
                ) from error
            if self.is_multilingual and tokenizer.language is None:
                raise PermanentError(
                    f"whisper {self._name} does not support the language {language!r}: set another language"
                )
            prompt = self._engine.get_prompt(tokenizer, [], without_timestamps=True)
            self._tokenizers[language] = tokenizer, prompt, get_suppressed_tokens(tokenizer, [-1])
        return self._tokenizers[language]


def _word(word: dict[str, Any]) -> SpokenWord:
    """Converts a word of the aligner, whose times are np.float64 seconds."""
    return SpokenWord(
        start_ms=round(float(word["start"]) * 1000),
        end_ms=round(float(word["end"]) * 1000),
        text=word["word"],
        confidence=round(float(word["probability"]), 3),
    )
