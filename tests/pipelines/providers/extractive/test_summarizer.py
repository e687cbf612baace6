"""Summaries made of clauses that were said, measured by checklists.

Each file in summary_calls/ has ten facts of a call: a fact is a name and the regular expressions that prove that a
summary has it. A file with turns is a call that was written for this test; the others are the demo calls, as Whisper
hears them. "least" is the number of facts to keep, 7 unless the file says otherwise.
"""

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.providers.base import NOTHING_SAID
from pipelines.providers.extractive.coverage import stem, tokens
from pipelines.providers.extractive.english import without_fillers
from pipelines.providers.extractive.summarizer import Extractive
from schemas.artifacts import Segment, Summary, Transcript
from tests.support.demo_calls import CALLS, demo_call

FOLDER = Path(__file__).parent / "summary_calls"
CHECKLISTS: Mapping[str, Mapping[str, Any]] = {
    path.stem: json.loads(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.json"))
}
WRITTEN = [name for name, checklist in CHECKLISTS.items() if "turns" in checklist]
LEAST = 7
POLITENESS = re.compile(
    r"\b(?:thank you|thanks|please|sorry|bear with me|hold on|one moment|let me (?:check|see|look)|how can i help|"
    r"good (?:morning|afternoon|evening)|you're welcome|have a (?:nice|good|lovely)|bye|goodbye|no problem|no worries|"
    r"anything else|um|uh|of course|absolutely|perfect|wonderful|inbound|outbound)\b",
    re.IGNORECASE,
)
# Words of the frame around what was said: who spoke with whom, and the third person.
FRAME = {"spoke", "with", "the", "customer", "agent", "they", "them", "their", "theirs", "themselves", "yes", "no"}
FRAME |= {"is", "was", "has", "does", "are", "have", "would", "will", "doesn't", "hasn't", "isn't", "wasn't", "were"}


def transcript(*turns: str, language: str = "en") -> Transcript:
    """Returns a call in which the speakers take turns, the inbound one first."""
    return call_of([(index % 2, text) for index, text in enumerate(turns)], language)


def call_of(turns: list[tuple[int, str]], language: str = "en") -> Transcript:
    """Returns a call of turns, each a channel and a text."""
    segments = [
        Segment(
            start_ms=1000 * index,
            end_ms=1000 * index + 900,
            channel=channel,
            speaker=("inbound", "outbound")[channel],
            text=text,
        )
        for index, (channel, text) in enumerate(turns)
    ]
    return Transcript(
        call_id="CA1",
        language=language,
        duration_ms=1000 * len(turns),
        provider="whisper",
        model="base",
        segments=segments,
    )


def written(name: str) -> Transcript:
    """Returns a call of summary_calls/."""
    checklist = CHECKLISTS[name]
    return call_of([(turn["channel"], turn["text"]) for turn in checklist["turns"]], checklist.get("language", "en"))


def as_said(name: str) -> Transcript:
    """Returns what is really said in a demo call, with numbers as words."""
    return call_of([(turn.channel, turn.text) for turn in demo_call(name).turns])


def lines(summary: Summary) -> list[str]:
    """Returns all lines that a reader sees."""
    return [summary.abstract, *summary.key_points, *summary.action_items]


def kept(summary: Summary, name: str) -> list[str]:
    """Returns the facts of a checklist that a summary has."""
    text = "\n".join(lines(summary))
    return [
        fact for fact, proofs in CHECKLISTS[name]["facts"].items() if any(re.search(proof, text) for proof in proofs)
    ]


def words(call: Transcript | Summary) -> int:
    """Returns the number of words."""
    texts = lines(call) if isinstance(call, Summary) else [segment.text for segment in call.segments]
    return sum(len(text.split()) for text in texts)


def assert_reads_well(call: Transcript, name: str) -> None:
    """Asserts the facts, the length and the absence of courtesies."""
    summary = Extractive().summary_of(call)
    facts = kept(summary, name)

    assert len(facts) >= CHECKLISTS[name].get("least", LEAST), (name, len(facts), lines(summary))
    assert words(summary) <= words(call) / 4, (name, lines(summary))
    if call.language == "en":
        assert not POLITENESS.findall("\n".join(lines(summary))), lines(summary)


def test_the_checklists_have_ten_facts() -> None:
    """Every checklist has ten facts, no proof matches an empty text, and a summary with nothing said keeps none: a
    checklist that any text passes measures nothing."""
    empty = Extractive().summary_of(transcript())

    assert len(WRITTEN) >= 4
    for name, checklist in CHECKLISTS.items():
        assert len(checklist["facts"]) == 10
        assert kept(empty, name) == []


@pytest.mark.parametrize("name", WRITTEN)
def test_written_calls_in_a_quarter_of_the_words(name: str) -> None:
    """A call about a bank, a clinic, a parcel, a computer and others: of ten facts the summary keeps at least seven (in
    German, six), with at most a quarter of the words, and without
    greetings, thanks and hold phrases. A failure means that it repeats the call or chooses small talk."""
    assert_reads_well(written(name), name)


@pytest.mark.parametrize("name", CALLS)
def test_demo_calls_as_they_are_said(name: str) -> None:
    """The demo calls' own text, with numbers as words: the same measure."""
    assert_reads_well(as_said(name), name)


async def test_demo_calls_as_whisper_hears_them(transcripts: Mapping[str, Transcript]) -> None:
    """The demo calls as Whisper writes them, with its errors: the same measure."""
    for name, call in transcripts.items():
        assert_reads_well(call, name)


@pytest.mark.parametrize("name", WRITTEN)
def test_only_what_was_said(name: str) -> None:
    """Every word of every line stands in the call, apart from the frame ("… spoke with …", "has", "they") and verbs'
    endings. A summary that says what nobody said is worse than none."""
    call = written(name)
    said = {stem(word) for segment in call.segments for word in tokens(segment.text)}
    said |= {stem(word) for segment in call.segments for word in tokens(without_fillers(segment.text))}

    for line in lines(Extractive().summary_of(call)):
        unsaid = {word for word in tokens(line) if stem(word) not in said} - FRAME
        assert not {word for word in unsaid if word.removesuffix("s") not in said}, line


def test_the_speakers_are_named_once() -> None:
    """The abstract begins with who spoke with whom; neither "inbound" nor "outbound" stands anywhere, and a speaker
    without a name has a role."""
    named = Extractive().summary_of(
        transcript("My name is Ana Lima and my router is broken since Monday.", "This is Tom speaking, Acme Telecom.")
    )
    nameless = Extractive().summary_of(
        transcript("My router has been broken since Monday morning.", "I'll send you a new router on Friday.")
    )

    assert named.abstract.startswith("Ana Lima spoke with Tom")
    assert "the customer's router has been broken since monday" in nameless.abstract.lower()
    assert nameless.action_items == ["The agent: send the customer a new router on Friday"]


@pytest.mark.parametrize(
    ("said", "items"),
    [
        (
            "The technician will visit you tomorrow between 8 and 10.",
            ["The technician: visit the customer tomorrow between 8 and 10"],
        ),
        (
            "We'll send you the invoice by email on Friday.",
            ["The agent: send the customer the invoice by email on Friday"],
        ),
        (
            "Please switch off the boiler until Thursday evening.",
            ["The customer: switch off the boiler until Thursday evening"],
        ),
        ("Let me check the boiler plan. Please bear with me for a minute.", []),
    ],
)
def test_action_items_have_owner_and_time(said: str, items: list[str]) -> None:
    """A third party's promise belongs to the third party, the agent's to the agent, a request to who is asked, and the
    time is in the text; a hold phrase gives none. `actions` has the same with the owner apart."""
    summary = Extractive().summary_of(transcript("The boiler shows error 27 since last night.", said))

    assert summary.action_items == items
    assert [f"{action.owner}: {action.text}" for action in summary.actions] == items


def test_an_offer_that_is_refused_is_no_action_item() -> None:
    """An appointment that the customer does not take does not stand in the summary, the one that is taken does."""
    summary = Extractive().summary_of(
        transcript(
            "My washing machine leaks and I need a repair.",
            "I can send a technician on Monday at 9. Would that work?",
            "No, I'm at work on Monday.",
            "I can send a technician on Wednesday at 17. Would that work?",
            "Yes, that works for me.",
        )
    )

    assert summary.action_items == ["The agent: send a technician on Wednesday at 17"]
    assert "Monday at 9" not in "\n".join(lines(summary))


def test_a_short_answer_stands_with_its_question() -> None:
    """ "It's 4471." says nothing without what was asked for."""
    summary = Extractive().summary_of(
        transcript("My card was stolen.", "What's your customer number, please?", "Yes, it's 447-291-0.")
    )

    assert "Customer number: 447-291-0." in summary.key_points or "Customer number: 447-291-0." in summary.abstract


def test_nothing_said() -> None:
    """An empty transcript: one honest sentence, no points, no actions."""
    summary = Extractive().summary_of(transcript())

    assert (summary.abstract, summary.key_points, summary.action_items) == (NOTHING_SAID, [], [])


@pytest.mark.parametrize("said", ["Hello?", "Good morning. Thank you, goodbye."])
def test_a_call_of_courtesies_only(said: str) -> None:
    """A call with nothing but greetings has them as its abstract: an empty summary would look like an error."""
    assert Extractive().summary_of(transcript(said)).abstract == said


def test_the_same_call_has_the_same_summary() -> None:
    """Made twice, it is the same to the letter, also where sentences are equally good: a replay must not change what
    people have read."""
    call = transcript(*(f"The {name} is out of stock." for name in ("lamp", "chair", "table", "sofa", "shelf", "desk")))

    assert Extractive().summary_of(call) == Extractive().summary_of(call)


def test_other_languages_are_not_rewritten() -> None:
    """German and Japanese: sentences, or their beginnings, are chosen as they were said, with the speaker before, and
    there are no action items, since the patterns are English. It holds too where the transcript says that the
    call is English."""
    for language in ("de", "en"):
        german = written("delivery_german").model_copy(update={"language": language})
        summary = Extractive().summary_of(german)
        said = " ".join(segment.text for segment in german.segments)
        sentences = re.split(r"(?<=[.?]) ", re.sub(r"\b(?:Customer|Agent): ", "", "\n".join(lines(summary))))

        assert summary.action_items == []
        assert all(part.rstrip(".") in said for sentence in sentences for part in sentence.split("\n"))
        assert "Customer: " in "\n".join(lines(summary))
    japanese = Extractive().summary_of(
        transcript("予約を変更したいです。金曜日は空いていますか。", "はい。", language="ja")
    )
    dots = Extractive().summary_of(transcript("...", "?!"))

    assert "予約を変更したいです。" in "\n".join(lines(japanese))
    assert dots.action_items == []


def test_another_language_has_the_reason_of_the_call() -> None:
    """A German call: the longest sentence of the caller's first turn must be in the summary, and long sentences are
    shortened: a first "Ja, bitte," and a part behind a comma are left out if that makes room for more."""
    summary = Extractive().summary_of(written("delivery_german"))

    assert "Ich warte seit Montag auf ein Paket und es ist immer noch nicht da." in summary.abstract
    assert "Agent: Die Expressgebühr von 5,90 Euro erstatten wir Ihnen." in summary.key_points


def test_each_speaker_has_a_language() -> None:
    """An English customer and a German agent: the customer is retold, the agent is quoted."""
    summary = Extractive().summary_of(
        transcript(
            "My parcel was supposed to be here on Monday and it has not arrived.",
            "Das Paket liegt seit gestern in der Filiale am Marktplatz und kann dort abgeholt werden.",
        )
    )

    assert "The customer's parcel was supposed to be here on Monday" in summary.abstract
    assert "Agent: Das Paket liegt seit gestern in der Filiale" in "\n".join(lines(summary))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(alphabet=st.sampled_from("i you ,.?!'am12pleaseTom\n你ü"), max_size=80), max_size=12))
def test_any_text_has_a_summary(turns: list[str]) -> None:
    """Whatever was heard, there is a summary, and it is short: neither an error nor the whole call."""
    call = transcript(*turns)
    summary = Extractive().summary_of(call)

    assert summary.abstract
    assert len(summary.key_points) <= 10


@pytest.mark.slow
def test_a_long_call_takes_no_minutes() -> None:
    """A call of half an hour, some 400 turns, takes less than two seconds on a busy machine (0.2 s on an idle one), one
    of three hours less than twenty, and the lists stay short."""
    turns = [turn["text"] for name in WRITTEN if name != "delivery_german" for turn in CHECKLISTS[name]["turns"]]
    for count, limit_s in ((400, 2), (2000, 20)):
        call = transcript(*(f"{turns[i % len(turns)]} {i}." for i in range(count)))
        started = time.process_time()
        summary = Extractive().summary_of(call)

        assert time.process_time() - started < limit_s
        assert len(summary.key_points) <= 10
        assert len(summary.action_items) <= 10
