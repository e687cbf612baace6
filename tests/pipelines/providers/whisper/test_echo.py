"""The echo of one channel in the other, on real speech."""

import numpy as np
import numpy.typing as npt
import pytest
from faster_whisper.vad import get_vad_model

from pipelines.providers.whisper.echo import echoes_of, without_echo
from pipelines.providers.whisper.voice import FRAME, Channel, Region, probabilities
from tests.support.demo_calls import CALLS, demo_call

pytestmark = pytest.mark.slow  # runs the voice detector over whole calls

LINE_HZ = 8_000
Samples = npt.NDArray[np.int16]


def with_echo(samples: Samples, level_db: float, delay_ms: int) -> Samples:
    """The call with the second channel's echo in the first one."""
    delay = delay_ms * LINE_HZ // 1000
    mixed = samples.astype(np.float64)
    mixed[delay:, 0] += samples[:-delay, 1] * 10 ** (level_db / 20)
    return np.clip(mixed, -32768, 32767).astype(np.int16)


def judged(samples: Samples) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """For each channel the probabilities of speech with and without echo."""
    channels = [Channel(one, LINE_HZ) for one in samples.T]
    found = [probabilities(channel, get_vad_model(), lambda: None) for channel in channels]
    return [(found[at], without_echo(channels[at], found[at], channels[1 - at], found[1 - at])) for at in (0, 1)]


@pytest.mark.parametrize(
    ("name", "level_db", "delay_ms"), [(CALLS[0], -20, 300), (CALLS[1], -14, 150), (CALLS[1], -30, 60)]
)
def test_an_echo_is_not_taken_for_speech(name: str, level_db: float, delay_ms: int) -> None:
    """The agent comes back in the caller's channel. At least 85 % of the echo must be removed; of what the caller
    really says at most 1 %, and nothing of what the agent says. Otherwise the caller is given the agent's words, or
    words are lost where both speak."""
    call = demo_call(name)
    (really, _), _ = judged(call.samples)
    (before, after), (agent_before, agent_after) = judged(with_echo(call.samples, level_db, delay_ms))
    own = really >= 0.5
    echo = (before >= 0.5) & (really < 0.35)

    assert echo.sum() > 500
    assert (after[echo] >= 0.5).mean() <= 0.15
    assert (after[own] == 0).mean() <= 0.01
    assert np.array_equal(agent_before, agent_after)


def test_double_talk_is_kept() -> None:
    """Both speak all the time: the agents of both calls on the channels of one, the first 10 dB quieter and with an
    echo of the second. Without the echo nothing of the first may be removed, with it at most 3 %: the ends of words
    that are quieter than the echo."""
    one, other = map(demo_call, CALLS)
    length = 60 * LINE_HZ
    both = np.column_stack([one.samples[:length, 1] * 0.3, other.samples[:length, 1]]).astype(np.int16)
    (really, unchanged), _ = judged(both)
    (_, after), _ = judged(with_echo(both, -25, 60))
    own = really >= 0.5

    assert np.array_equal(really, unchanged)
    assert (after[own] == 0).mean() <= 0.03


def test_the_same_recording_on_both_channels_is_no_echo() -> None:
    """A mono call that was written to two channels: both are as loud, so both are kept."""
    samples = demo_call("broadband_outage").samples[:, :1]
    for before, after in judged(np.repeat(samples, 2, axis=1)):
        assert np.array_equal(before, after)


def test_the_parts_that_are_echo() -> None:
    """Probabilities that became 0 at the beginning, in the middle and at the end: three regions, in samples."""
    before = np.full(10, 0.5, np.float32)
    after = np.array([0, 0.5, 0.5, 0, 0, 0, 0.5, 0.5, 0.5, 0], np.float32)

    assert echoes_of(before, after) == [
        Region(0, FRAME),
        Region(3 * FRAME, 6 * FRAME),
        Region(9 * FRAME, 10 * FRAME),
    ]
    assert echoes_of(before, before) == []
