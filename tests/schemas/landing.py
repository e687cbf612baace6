"""What ever landed on the log, kept: of each schema every version with a sample of it, in tests/schemas/landed.

`python -m tests.schemas.landing` adds the versions that are new. Nothing there is ever changed or removed: records
of that kind lie on somebody's log.
"""

import base64
import json
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from schemas import json_schema
from schemas.media import MediaRecord, RecordType, to_headers

FOLDER = Path(__file__).parent / "landed"
SCHEMA, SAMPLE = ".schema.json", ".sample.json"
Json = Mapping[str, Any]


def versions(name: str, suffix: str) -> list[Any]:
    """All that landed of that name, oldest first."""
    paths = sorted((FOLDER / name).glob(f"*{suffix}"), key=lambda path: int(path.name.removesuffix(suffix)))
    return [json.loads(path.read_text()) for path in paths]


def add(name: str, schema: Json, sample: Any) -> bool:
    """Keeps a version unless it is the latest anyway. Whether it was new."""
    schema = bare(schema)
    before = versions(name, SCHEMA)
    if before and before[-1] == schema:
        return False
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    number = len(before) + 1
    (folder / f"{number}{SCHEMA}").write_text(json.dumps(schema, indent=1, sort_keys=True) + "\n")
    (folder / f"{number}{SAMPLE}").write_text(json.dumps(sample, indent=1) + "\n")
    return True


def bare(schema: Json) -> Json:
    """The schema without what is said about it: better words are no new version."""
    return {
        key: bare(value) if isinstance(value, dict) else value
        for key, value in schema.items()
        if not (key in ("description", "title") and isinstance(value, str))
    }


def full(model: type[BaseModel]) -> BaseModel:
    """An instance with every field set, also those that have a default."""
    return model.model_validate({name: _value(name, field.annotation) for name, field in model.model_fields.items()})


def media_samples() -> list[dict[str, Any]]:
    """A record of each type, as it lies on the log: key, headers, value in base64."""
    records = [
        MediaRecord(
            one,
            "CA1",
            "acme",
            "twilio",
            "MZ1",
            1_790_000_000_000,
            track="inbound",
            seq=3,
            ts_ms=40,
            frames=2,
            payload=b"\xff" * 320,
        )
        for one in RecordType
    ]
    return [
        {
            "key": record.call_id,
            "headers": {name: content.decode() for name, content in to_headers(record)},
            "value": base64.b64encode(record.payload).decode(),
        }
        for record in records
    ]


def _value(name: str, kind: Any) -> Any:
    """Something of that type, as it could be sent."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return arguments[0]
    if origin is Annotated:
        return _value(name, arguments[0])
    if origin in (Union, UnionType):
        return _value(name, next(one for one in arguments if one is not NoneType))
    if origin in (list, dict):
        inner = _value(name, arguments[-1])
        return [inner] if origin is list else {"some": inner}
    if isinstance(kind, type) and issubclass(kind, BaseModel | Enum):
        return full(kind).model_dump() if issubclass(kind, BaseModel) else next(iter(kind))
    made: dict[Any, Any] = {str: f"some {name}", int: 7, float: 0.5, bool: True, Decimal: Decimal("0.0162")}
    return made[kind]


def main() -> None:
    """Adds what is new and says what."""
    schemas = json_schema.schemas()
    for name, model in json_schema.models().items():
        if add(name, schemas[name], json.loads(full(model).model_dump_json())):
            print(name)
    if add(json_schema.MEDIA_HEADERS, schemas[json_schema.MEDIA_HEADERS], media_samples()):
        print(json_schema.MEDIA_HEADERS)


if __name__ == "__main__":
    main()
