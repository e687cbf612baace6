"""Every version that ever landed is read by today's code, and today's by whoever knows only the first."""

import base64
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from schemas import json_schema
from schemas.events import parse_event
from schemas.media import RecordType, from_headers
from tests.schemas.compatibility import breaks
from tests.schemas.landing import SAMPLE, SCHEMA, bare, full, media_samples, versions

NAMES = sorted(json_schema.schemas())
MODELS = json_schema.models()
_JSON = Path(json_schema.__file__).with_name("json")


def test_the_published_files_are_up_to_date() -> None:
    """Compares schemas/json with what the models say. Strangers build on those files."""
    published = {path.name: path.read_text() for path in _JSON.glob("*.json")}
    assert published == json_schema.files(), "run `audiotext schemas schemas/json`"


@pytest.mark.parametrize("name", NAMES)
def test_every_version_is_kept(name: str) -> None:
    """The latest version kept is today's. If this fails, a schema changed: look whether `breaks` has something to say,
    then `python -m tests.schemas.landing` keeps the new version with a sample."""
    assert versions(name, SCHEMA)[-1] == bare(json_schema.schemas()[name]), "run `python -m tests.schemas.landing`"


@pytest.mark.parametrize("name", NAMES)
def test_no_version_broke_an_earlier_one(name: str) -> None:
    """Compares each version that landed with today's, field by field. A field that is renamed would be lost on every
    log that holds records of before."""
    for old in versions(name, SCHEMA):
        assert breaks(old, json_schema.schemas()[name]) == []


@pytest.mark.parametrize("name", MODELS)
def test_todays_code_reads_every_version(name: str) -> None:
    """Reads the stored sample of each version: nothing it said is lost, and events are recognized by their type.

    What has been added since takes its default. If not, a replay of last year's calls would stop."""
    model = MODELS[name]
    for sample in versions(name, SAMPLE):
        read = model.model_validate_json(json.dumps(sample))
        assert _contains(json.loads(read.model_dump_json()), sample)
        if "type" in model.model_fields and name != "order.notice":
            assert type(parse_event(json.dumps(sample))) is model


def test_todays_code_reads_every_record_of_audio() -> None:
    """The same for call.media: each stored record of each version says what it said."""
    for samples in versions(json_schema.MEDIA_HEADERS, SAMPLE):
        for sample in samples:
            headers = [(name, content.encode()) for name, content in sample["headers"].items()]
            record = from_headers(sample["key"], headers, base64.b64decode(sample["value"]))
            assert record.type == RecordType(sample["headers"]["type"])
            assert (record.call_id, record.ts_ms, record.frames) == ("CA1", 40, 2)
            assert record.payload == b"\xff" * 320


@pytest.mark.parametrize("name", NAMES)
def test_an_old_consumer_reads_todays(name: str) -> None:
    """Judges today's event, every field of it set, by the schema of each version that landed: accepted, for unknown
    fields are. A consumer somebody wrote a year ago goes on."""
    if name == json_schema.MEDIA_HEADERS:
        # Types of records are added: whoever reads knows to pass over those it does not know.
        known = set(versions(name, SCHEMA)[0]["properties"]["type"]["enum"])
        events = [sample["headers"] for sample in media_samples() if sample["headers"]["type"] in known]
    else:
        events = [json.loads(full(MODELS[name]).model_dump_json())]
    for old in versions(name, SCHEMA):
        for event in events:
            Draft202012Validator(old).validate(event)


def _set(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(schema: dict[str, Any]) -> None:
        *parents, last = path.split("/")
        for parent in parents:
            schema = schema[parent]
        schema[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda schema: schema["properties"].pop("units"), "units is gone"),
        (lambda schema: schema["required"].append("tokens"), "tokens is required and was not"),
        (lambda schema: schema["required"].remove("price"), "price was required and is not"),
        (_set("properties/units", {"type": "string"}), "units is another type"),
        (_set("properties/units", {"anyOf": [{"type": "integer"}]}), "units is another type"),
        (_set("properties/kind/enum", ["transcription", "summary"]), "kind cannot be embedding any more"),
        (_set("properties/type/const", "usage.told"), "type is another type"),
        (_set("properties/tokens/anyOf", [{"$ref": "#/$defs/Tokens"}]), "tokens has other alternatives"),
        (_set("$defs/Tokens/properties/prompt/type", "number"), "tokens.prompt is another type"),
    ],
)
def test_a_change_that_breaks_is_refused(change: Callable[[dict[str, Any]], None], words: str) -> None:
    """Does to a line of the bill each thing that must not be done to a schema: it is found, and named."""
    old = json_schema.schemas()["usage.recorded"]
    new = copy.deepcopy(dict(old))
    change(new)
    (found,) = breaks(old, new)
    assert words in found


def test_an_addition_is_no_break() -> None:
    """A field with a default, or one more value of an enumeration, is how schemas grow."""
    old = json_schema.schemas()["usage.recorded"]
    new = copy.deepcopy(dict(old))
    new["properties"]["colour"] = {"type": "string", "default": ""}
    new["properties"]["kind"]["enum"].append("translation")
    assert breaks(old, new) == []


def _contains(whole: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return all(name in whole and _contains(whole[name], value) for name, value in part.items())
    if isinstance(part, list):
        return len(whole) == len(part) and all(map(_contains, whole, part))
    return bool(whole == part)
