"""Models that are paid by the token: how often they are asked, and which tokens are on the bill, whatever step fails.

They keep nothing that could be asked for after a crash. A worker that is killed between an answer and its storage costs
that one request again; its tokens are known to nobody. All other answers are asked for once and counted.
"""

import uuid
from contextlib import suppress
from itertools import count

import pytest

from core.settings import QdrantSettings, S3Settings
from pipelines.runtime.errors import PermanentError
from schemas.events import TranscriptReady
from sinks.object_store import ObjectStore
from sinks.qdrant.store import VectorStore, collection_of
from tests.fakes import gemini as rules
from tests.fakes.gemini import Answer, FakeGemini
from tests.pipelines.guarantees.stages import (
    DEARER,
    USUAL,
    gemini_embedder,
    gemini_summarizer,
    kept_of,
    shape,
)
from tests.pipelines.guarantees.workers import Delivered, Fault, Steps, deliver, start, struck
from tests.support.ids import new_call
from tests.support.pipeline_events import said, transcribed

THOUGHTS = 7  # tokens of each answer of the fake
USELESS = Answer("this is not JSON", tokens=(100, 20, THOUGHTS, 0))
TURNS = tuple(f"Turn number {number} says something." for number in range(40))  # two stretches
FEWEST_STEPS = 10


def new_transcript(objects: ObjectStore, *turns: str, tenant: str = "acme") -> TranscriptReady:
    """A transcript of a call of its own."""
    return transcribed(objects, said(new_call(), *turns), tenant=tenant)


def thoughts(delivered: Delivered) -> int:
    """Tokens on the one ledger line that each answer has the same number of."""
    [line] = delivered.lines
    assert line.tokens is not None
    return line.tokens.thoughts


def prompted(delivered: Delivered) -> int:
    """Tokens of what was sent, on the one ledger line."""
    [line] = delivered.lines
    assert line.tokens is not None
    return line.tokens.prompt


@pytest.mark.parametrize("fault", [Fault.KILL, Fault.LOSE, Fault.FAIL])
async def test_whatever_step_fails_a_summary_pays_for_no_answer_twice(
    fault: Fault, gemini: FakeGemini, s3: S3Settings, objects: ObjectStore
) -> None:
    """A call is summarized by three questions, and the first answer is useless. A worker is killed after its n-th step,
    or loses the answer to it, or the step fails; the event is delivered to another one, and to a third one at other
    prices and with another model. Whatever n: one summary and one line, the same from all; no question is repeated but
    the one that the fault hit; the tokens of all other answers are on the line, those of the useless one included.

    A failure means that an answer is paid for twice, or that the margin looks larger than it is.
    """
    make = gemini_summarizer(gemini, s3)
    again = gemini_summarizer(gemini, s3, DEARER, model=rules.SUMMARIZERS[1])
    clean = new_transcript(objects, *TURNS)
    gemini.script = [USELESS]
    assert thoughts(await deliver(make, clean)) == 4 * THOUGHTS
    assert len(gemini.asked) == 4
    objects_of_a_call = shape(kept_of(objects, clean))
    for step in count(1):
        event, before, steps = new_transcript(objects, *TURNS), len(gemini.asked), Steps(fault, step)
        gemini.script = [USELESS]
        await deliver(make, event, steps)
        if not steps.struck:
            break
        second, third = await deliver(make, event), await deliver(again, event)
        asked = len(gemini.asked) - before
        where = f"{fault} at step {step}, {steps.struck}"
        lost = steps.lost("GeminiSummarizer.generate")
        assert asked <= 4 + lost, where
        assert thoughts(second) >= THOUGHTS * (asked - lost), where
        assert [line.kind for line in second.lines] == ["summary"], where
        assert third.events == second.events, where
        assert shape(kept_of(objects, event)) == objects_of_a_call, where
    assert step > FEWEST_STEPS


async def test_of_two_workers_at_one_summary_both_are_counted_and_one_stands(
    gemini: FakeGemini, s3: S3Settings, objects: ObjectStore
) -> None:
    """A worker freezes after its n-th step, another one summarizes the call with another price and finishes; then the
    first goes on where it was. Whatever n, both tell the same, and nothing that was told of changes.

    A failure means that a summary or a charge changes after its event was published.
    """
    make, other = (gemini_summarizer(gemini, s3, pricing) for pricing in (USUAL, DEARER))
    for step in count(1):
        event, steps = new_transcript(objects, *TURNS[:2]), Steps(Fault.FREEZE, step)
        zombie = start(make, event, steps)
        if not await struck(steps, zombie):
            break
        second = await deliver(other, event)
        steps.resumed.set()
        first = await zombie
        where = f"frozen at step {step}, {steps.struck}"
        assert first.events == second.events, where
        assert len(first.lines) == 1, where
    assert step > FEWEST_STEPS


async def test_an_answer_that_came_second_is_counted(gemini: FakeGemini, s3: S3Settings, objects: ObjectStore) -> None:
    """A worker freezes with the first answer in its hands; another one asks the same, keeps its answer, and is killed
    with the second in its hands; the first goes on to the end. All answers but the one that died are on the line.

    A failure means that an answer which came twice is paid for and not counted.
    """
    make = gemini_summarizer(gemini, s3)
    event = new_transcript(objects, *TURNS)
    frozen, killed = Steps(Fault.FREEZE, 1, "GeminiSummarizer."), Steps(Fault.KILL, 2, "GeminiSummarizer.")
    zombie = start(make, event, frozen)
    assert await struck(frozen, zombie)
    await deliver(make, event, killed)
    assert killed.struck
    frozen.resumed.set()
    assert thoughts(await zombie) == THOUGHTS * (len(gemini.asked) - 1)


async def test_answers_that_cannot_be_read_are_no_reason_to_ask_again(
    gemini: FakeGemini, s3: S3Settings, objects: ObjectStore
) -> None:
    """A worker is killed after its n-th step, and everything it has stored is damaged. Another worker asks nothing and
    gives up for good, so that somebody looks. Of a call that is done all but one object is damaged, each in turn:
    nothing is asked either.

    A failure means that damaged records are paid for.
    """
    make = gemini_summarizer(gemini, s3)
    for step in count(1):
        event, steps = new_transcript(objects, *TURNS), Steps(Fault.KILL, step)
        inputs = kept_of(objects, event)
        await deliver(make, event, steps)
        if not steps.struck:
            break
        if stored := kept_of(objects, event).keys() - inputs.keys():
            for key in stored:
                objects.put(key, b"{", "application/json")
            asked = len(gemini.asked)
            with pytest.raises(PermanentError):
                await deliver(make, event)
            assert len(gemini.asked) == asked, f"killed at step {step}, {steps.struck}; damaged: {sorted(stored)}"
    assert step > FEWEST_STEPS

    intact, asked = kept_of(objects, event), len(gemini.asked)
    stored = intact.keys() - inputs.keys()
    for whole in stored:
        for key in stored:
            objects.put(key, intact[key] if key == whole else b"{", "application/json")
        with suppress(PermanentError):
            await deliver(make, event)
        assert len(gemini.asked) == asked, f"all but {whole} is damaged"


@pytest.mark.parametrize("fault", [Fault.KILL, Fault.LOSE, Fault.FAIL])
async def test_whatever_step_fails_an_embedding_counts_each_answer(
    fault: Fault, gemini: FakeGemini, s3: S3Settings, qdrant: QdrantSettings, objects: ObjectStore
) -> None:
    """A call is embedded. A worker is killed after its n-th step, or loses the answer to it, or the step fails; the
    event is delivered to another one, and to a third one at other prices. Whatever n: each turn is found once, one
    line, the same from all, with the tokens of every answer but the one that died with its worker. A fault that leaves
    the worker alive repeats no request unless it hits the request itself, and a kill repeats one.

    A failure means that an embedding is on nobody's bill, or is asked for without need.
    """
    make, again = (gemini_embedder(gemini, s3, qdrant, pricing) for pricing in (USUAL, DEARER))
    tenant = f"t-{uuid.uuid4().hex}"
    clean = new_transcript(objects, *TURNS[:3], tenant=tenant)
    tokens = prompted(await deliver(make, clean))
    assert tokens
    objects_of_a_call = shape(kept_of(objects, clean))
    for step in count(1):
        event, before = new_transcript(objects, *TURNS[:3], tenant=tenant), len(gemini.asked)
        steps = Steps(fault, step)
        await deliver(make, event, steps)
        if not steps.struck:
            break
        second, third = await deliver(make, event), await deliver(again, event)
        asked = len(gemini.asked) - before
        where = f"{fault} at step {step}, {steps.struck}"
        lost = steps.lost("GeminiEmbedder.embed")
        # Vectors are not kept beside the answer: who comes after a kill asks again until they are written.
        assert asked <= 1 + int(fault is Fault.KILL or steps.struck == "GeminiEmbedder.embed"), where
        assert prompted(second) >= tokens * (asked - lost), where
        assert third.events == second.events, where
        assert shape(kept_of(objects, event)) == objects_of_a_call, where
        assert found(qdrant, event) == 3, where
    assert step > FEWEST_STEPS


def found(qdrant: QdrantSettings, event: TranscriptReady) -> int:
    """Turns of the call that a search finds."""
    vector = rules.vector("turn number says something", 128)
    hits = VectorStore(qdrant).search(collection_of(rules.EMBEDDERS[0], 128), vector, tenant=event.tenant, limit=500)
    return sum(hit.call_id == event.call_id for hit in hits)


async def test_useless_vectors_are_counted(
    gemini: FakeGemini, s3: S3Settings, qdrant: QdrantSettings, objects: ObjectStore
) -> None:
    """The first answer to a request for vectors has none that can be used, but was paid for: the line has both.

    A failure means that the margin looks larger than it is.
    """
    make = gemini_embedder(gemini, s3, qdrant)
    once = prompted(await deliver(make, new_transcript(objects, *TURNS[:3])))
    usage = {"promptTokenCount": 1_000}
    gemini.script = [(200, {"embeddings": [{"values": [1.0]}], "usageMetadata": usage})]
    assert prompted(await deliver(make, new_transcript(objects, *TURNS[:3]))) == once + 1_000
