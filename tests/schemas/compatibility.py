"""Whether a schema may follow another on the log: whoever knows one of them must be able to read both kinds."""

from collections.abc import Iterator, Mapping
from typing import Any

Json = Mapping[str, Any]


def breaks(old: Json, new: Json) -> list[str]:
    """What makes the new schema incompatible with the old one; empty if nothing does."""
    return list(_breaks("", old, new, old.get("$defs", {}), new.get("$defs", {})))


def _breaks(at: str, old: Json, new: Json, old_defs: Json, new_defs: Json) -> Iterator[str]:
    old, new = _resolved(old, old_defs), _resolved(new, new_defs)
    if old.get("type") != new.get("type") or old.get("const") != new.get("const"):
        yield f"{at or 'it'} is another type"
        return
    if gone := set(old.get("enum", ())) - set(new.get("enum", ())):
        yield f"{at} cannot be {', '.join(sorted(gone))} any more"
    if old.get("pattern") != new.get("pattern"):
        yield f"{at} has another pattern"
    before, after = set(old.get("required", ())), set(new.get("required", ()))
    for name in sorted(after - before):
        yield f"{at}.{name} is required and was not: what lies on the log lacks it"
    for name in sorted(before - after):
        yield f"{at}.{name} was required and is not: old readers rely on it"
    for name, known in old.get("properties", {}).items():
        if name not in new.get("properties", {}):
            yield f"{at}.{name} is gone"
            continue
        yield from _breaks(f"{at}.{name}", known, new["properties"][name], old_defs, new_defs)
    for inner in ("items", "additionalProperties"):
        if isinstance(old.get(inner), dict) and isinstance(new.get(inner), dict):
            yield from _breaks(f"{at}[]", old[inner], new[inner], old_defs, new_defs)
        elif old.get(inner) != new.get(inner):
            yield f"{at}[] is another type"
    one, other = old.get("anyOf", ()), new.get("anyOf", ())
    if len(one) != len(other):
        yield f"{at} has other alternatives"
    for first, second in zip(one, other, strict=False):
        yield from _breaks(at, first, second, old_defs, new_defs)


def _resolved(schema: Json, defs: Json) -> Json:
    reference = schema.get("$ref")
    return defs[reference.removeprefix("#/$defs/")] if reference else schema
