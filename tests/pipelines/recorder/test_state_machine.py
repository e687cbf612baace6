"""The state machine: decisions about records, without clock and disk."""

import json
from collections.abc import Iterable
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pipelines.recorder.state_machine import (
    Action,
    CallState,
    Transition,
    UnrecordedPart,
    forget_record,
    from_json,
    is_recorded,
    to_json,
    transition,
    unrecorded,
)
from schemas.media import CloseReason, MediaRecord, RecordType
from tests.support.media_records import Call, audio

SOURCE = Call("CA", {"inbound": audio(0, 20)})
START, EOS = SOURCE.start(), SOURCE.eos()
MEDIA = SOURCE.run("inbound", 0, SOURCE.tracks["inbound"])


def close(seen: int, part: int = 1) -> MediaRecord:
    return SOURCE.record(RecordType.CLOSE, stream_id="", seen=seen, part=part, detail=CloseReason.ENDED)


def recorded(part: int = 1) -> MediaRecord:
    return SOURCE.record(RecordType.RECORDED, stream_id="", part=part)


def told(
    records: Iterable[MediaRecord], state: CallState | None = None, first: int = 0
) -> tuple[CallState, list[Transition]]:
    """Returns the state and decisions after the records, whose offsets count from `first`."""
    state, decisions = state or CallState(), []
    for offset, record in enumerate(records, first):
        state, decision = transition(from_json(to_json(state)), record, offset)
        decisions.append(decision)
    return state, decisions


def actions(records: Iterable[MediaRecord]) -> list[tuple[Action, int]]:
    return [(decision.action, decision.part) for decision in told(records)[1]]


def test_a_call_from_start_to_recorded() -> None:
    """Runs the plain case: all records go to part 1, the close finishes it, `recorded` releases it."""
    state, decisions = told([START, MEDIA, EOS, close(seen=2), recorded()])
    assert [decision.action for decision in decisions] == [
        Action.APPEND,
        Action.APPEND,
        Action.APPEND,
        Action.FINISH,
        Action.RELEASE,
    ]
    assert [decision.ended for decision in decisions[:3]] == [False, False, True]
    assert [decision.expected_offset for decision in decisions[:4]] == [-1, 0, 1, 2]
    assert (state.parts, state.finished, state.last) == (1, True, 4)


def test_a_close_that_did_not_know_of_the_latest_record_does_not_count() -> None:
    """Puts a frame before the close that did not know it. To close would cut the call, so the part must continue."""
    state, decisions = told([START, MEDIA, EOS, MEDIA, close(seen=2)])
    assert decisions[-1].action is Action.WATCH
    assert (decisions[-1].expected_offset, decisions[-1].ended) == (3, True)
    assert state.open is not None


def test_a_late_stream_makes_a_new_part() -> None:
    """Starts another stream after the close. It must be part 2, and part 1 must stay unchanged."""
    records = [START, MEDIA, EOS, close(seen=2)]
    late = [START, MEDIA, EOS]
    assert actions([*records, *late])[4:] == [(Action.APPEND, 2)] * 3
    assert actions([*records, recorded(), *late])[5:] == [(Action.APPEND, 2)] * 3


def test_the_parts_that_need_more_work() -> None:
    """Reads the parts that need work from the state alone.

    Parts to finish, open parts, and the content of their journals. A recorded part needs no work, and its files may be
    deleted.
    """
    records = [START, MEDIA, EOS, close(seen=2), START, EOS]
    state, _ = told(records)
    first = UnrecordedPart(1, first_offset=0, last_offset=3, closed=True)
    second = UnrecordedPart(2, first_offset=4, last_offset=5, closed=False, ended=True, carrier="twilio")
    assert unrecorded(state) == [first, second]
    assert [is_recorded(state, part) for part in (1, 2, 3)] == [False, False, False]
    state, _ = told([recorded(part=1)], state, 6)
    assert unrecorded(state) == [second]
    assert [is_recorded(state, part) for part in (1, 2, 3)] == [True, False, False]


def test_late_audio_makes_a_new_part_too_but_a_late_end_does_not() -> None:
    """Sends late audio, which must never be dropped. A late end, digit or mark must not make an empty recording."""
    closed = [START, MEDIA, close(seen=1)]
    assert actions([*closed, MEDIA])[-1] == (Action.APPEND, 2)
    digit = SOURCE.record(RecordType.DTMF, detail="5")
    assert [action for action, _ in actions([*closed, EOS, digit])[3:]] == [Action.IGNORE, Action.IGNORE]


def test_closing_twice_is_closing_once() -> None:
    """Sends two decisions to close. After the recording is ready, the second may only release the files."""
    assert [action for action, _ in actions([START, EOS, close(1), close(1), recorded(), close(1)])] == [
        Action.APPEND,
        Action.APPEND,
        Action.FINISH,
        Action.IGNORE,
        Action.RELEASE,
        Action.RELEASE,
    ]


def test_recording_is_made_again_while_it_is_missing() -> None:
    """Sends the replay of a dead letter before the part is closed, after that, and after its recording is ready.

    Only a closed part without a recording may be recorded again, and the state must not change.
    """
    retry = SOURCE.record(RecordType.RETRY, stream_id="", part=1)
    records = [START, retry, close(0), retry, recorded(), retry]
    assert [action for action, _ in actions(records)][1::2] == [Action.IGNORE, Action.RETRY, Action.IGNORE]
    assert told(records[:4])[0].unfinished == told(records[:3])[0].unfinished


def test_a_decision_about_an_unknown_part_is_ignored() -> None:
    """Sends a decision about a part that does not exist. It must neither open nor close one."""
    state, decisions = told([close(seen=5, part=3), recorded(part=1), START])
    assert decisions[0].action is Action.IGNORE
    assert state.parts == 1


OVER = SOURCE.record(RecordType.EOS, stream_id="")


def test_the_call_s_end_is_that_of_all_its_streams() -> None:
    """The carrier said by a webhook that the call is over: no stream is waited for any longer. Audio that was on its
    way still belongs to the part, and does not make it wait again; told later, it opens no part."""
    _, decisions = told([START, MEDIA, OVER, MEDIA, EOS])
    assert [decision.ended for decision in decisions] == [False, False, True, True, True]
    assert actions([OVER, START]) == [(Action.IGNORE, 0), (Action.APPEND, 1)]
    assert actions([START, OVER, close(seen=1), OVER])[-1] == (Action.IGNORE, 1)


def test_a_call_of_ever_so_many_streams_has_a_small_state() -> None:
    """A call is put on hold 5,000 times, each time with a stream of a long name, and one stream goes on all the time.
    The call is over when that one is, and its state stays a small record. Beyond a megabyte the changelog would not
    take it, and the recorder of the whole partition end for ever."""
    other = replace(SOURCE.stream("MZ2", 0).start(), gateway="one")
    streams = [SOURCE.stream(f"{number:04}{'m' * 250}", 0) for number in range(5000)]
    held = [replace(record, gateway="one") for stream in streams for record in (stream.start(), stream.eos())]
    state = CallState()
    for offset, record in enumerate([other, *held]):
        state, decision = transition(state, record, offset)
        assert not decision.ended
    assert len(json.dumps(to_json(state))) < 20_000
    end = replace(other, type=RecordType.EOS)
    _, decisions = told([streams[-1].run("inbound", 0, MEDIA.payload), end], state, 20_000)
    assert [decision.ended for decision in decisions] == [False, True]


def test_a_stream_that_moved_to_another_gateway_ends_there() -> None:
    """A carrier comes back to a second gateway with the same stream, and only then does the first one find its socket
    dead: what it says of the end does not end the stream, which goes on. The second one's word does, also when the
    first, started anew, has nothing more to say. Taken for the end, the first one's would split the call in two."""
    first, second = (replace(START, gateway=name) for name in ("one", "two"))
    late, end = (replace(EOS, gateway=name) for name in ("one", "two"))
    state, decisions = told([first, MEDIA, second, MEDIA, late, MEDIA])
    assert not any(decision.ended for decision in decisions)
    _, (decision,) = told([end], state, first=6)
    assert decision.ended
    assert told([first, MEDIA, late])[1][-1].ended


def test_records_of_before_end_their_streams_as_ever() -> None:
    """Records of a gateway that does not say who it is, before, after and between those that do: any end counts, as it
    did when they were written. So a call that was under way at the update, and every old log, is decided as before."""
    named = replace(START, gateway="one")
    assert told([START, MEDIA, replace(EOS, gateway="one")])[1][-1].ended
    assert told([named, MEDIA, EOS])[1][-1].ended
    assert told([named, START, replace(EOS, gateway="one")])[1][-1].ended


def test_a_recorder_of_before_reads_the_state() -> None:
    """What a state says of gateways stands beside what it always said, so that a recorder of the version before, which
    takes a partition back during an update, finds what it knows."""
    plain, named = (to_json(told([start, MEDIA])[0]) for start in (START, replace(START, gateway="one")))
    assert {name: part for name, part in named.items() if name != "gateways"} == plain


def test_all_streams_have_to_end() -> None:
    """Ends one of two streams, then the other. The call ends with the second."""
    other = SOURCE.stream("MZ2", 0)
    _, decisions = told([START, other.start(), EOS, MEDIA, other.eos()])
    assert [decision.ended for decision in decisions] == [False, False, False, False, True]


records_of_any_kind = st.lists(
    st.one_of(
        st.sampled_from([START, MEDIA, EOS, OVER]),
        st.builds(close, seen=st.integers(0, 20), part=st.integers(1, 3)),
        st.builds(recorded, part=st.integers(1, 3)),
    ),
    max_size=20,
)


@given(records_of_any_kind, st.data())
def test_redelivery_decides_the_same(records: list[MediaRecord], data: st.DataObject) -> None:
    """The recorder is killed anywhere and reads again from its last commit, with the state of that commit.

    The parts, and which record lies in which, must be those of an undisturbed run: or audio would be doubled, lost,
    or put into another part than the one already uploaded.
    """
    whole_state, whole = told(records)
    committed = data.draw(st.integers(0, len(records)))
    state, before = told(records[:committed])
    state, after = told(records[committed:], state, committed)
    assert (state, before + after) == (whole_state, whole)


@given(records_of_any_kind, st.data())
def test_a_record_that_the_state_knows_already_changes_nothing(records: list[MediaRecord], data: st.DataObject) -> None:
    """The state is ahead of the committed offset (a changelog was flushed, the commit lost): media that come again
    are neither journalled twice nor taken for a late stream."""
    state, _ = told(records)
    if state.open is None:
        return
    again = data.draw(st.integers(0, state.open.last_offset))
    if records[again].type in (RecordType.START, RecordType.MEDIA, RecordType.EOS):
        following, decision = transition(state, records[again], again)
        assert decision.action is Action.IGNORE
        assert following == state


@given(records_of_any_kind)
def test_every_frame_is_in_exactly_one_part(records: list[MediaRecord]) -> None:
    """Sends any records in any order. Audio must be in a journal, and no part number may be used twice."""
    _, decisions = told(records)
    parts = [d.part for r, d in zip(records, decisions, strict=True) if r.type is RecordType.MEDIA]
    assert all(
        d.action is Action.APPEND
        for r, d in zip(records, decisions, strict=True)
        if r.type in (RecordType.START, RecordType.MEDIA)
    )
    assert parts == sorted(parts)
    finished = [d.part for d in decisions if d.action is Action.FINISH]
    assert len(finished) == len(set(finished))


def test_a_deleted_state_leaves_nothing() -> None:
    """Deletes the state of a call. The same records must then give the same decisions again."""
    state, _ = told([START, MEDIA, EOS, close(seen=2), recorded()])
    assert (state.finished, state.last) == (True, 4)
    forget = forget_record((SOURCE.tenant, SOURCE.call_id), state, at_ms=0)
    assert told([forget], state, first=5) == (CallState(), [Transition(Action.FORGET, 1)])
    assert told([forget], CallState(), first=6)[0].parts == 0  # decided twice


def test_a_late_stream_is_not_forgotten() -> None:
    """Starts a stream between the decision to delete the state and its record. It must be part 2, not a new part 1."""
    done, _ = told([START, MEDIA, EOS, close(seen=2), recorded()])
    forget = forget_record((SOURCE.tenant, SOURCE.call_id), done, at_ms=0)
    state, decisions = told([START, forget, MEDIA], done, first=5)
    assert [(one.action, one.part) for one in decisions] == [(Action.APPEND, 2), (Action.IGNORE, 2), (Action.APPEND, 2)]
    state, _ = told([EOS, close(seen=8, part=2), recorded(2), forget], state, first=8)
    assert (state.parts, state.finished) == (2, True)


def test_what_is_read_again_of_a_finished_call_makes_no_part() -> None:
    """The log is read again from its beginning while the state is there: nothing of the call is new."""
    story = [START, MEDIA, EOS, close(seen=2), recorded()]
    state, _ = told(story)
    again, decisions = told(story, state)
    assert again == state
    assert {one.action for one in decisions} == {Action.IGNORE, Action.RELEASE}
