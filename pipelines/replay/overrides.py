"""The settings a replay works with: this installation's, but for what was asked to be otherwise. Pure."""

from pydantic import BaseModel, ValidationError

from audiotext.errors import UserError
from audiotext.settings import Settings
from pipelines.replay.selection import TRANSCRIBING
from schemas.events import ReplayOverrides, ReplayStage

_LANGUAGE, _PROMPT = "language", "prompt"


class OverrideError(UserError):
    """Something that was asked to be otherwise cannot be; the message says why."""


def overridden(settings: Settings, stage: ReplayStage, overrides: ReplayOverrides) -> Settings:
    """The settings of a replay from that stage on. Raises OverrideError.

    Provider, model and language are those of the first engine that is asked again, the prompt is the summary's.
    """
    first = "stt" if stage in TRANSCRIBING else "embedding" if stage == "embedding" else "summary"
    if overrides.language is not None and first != "stt":
        raise OverrideError(f"language: only transcribing knows languages; replay from `recording`, not from `{stage}`")
    if overrides.prompt is not None and stage == "embedding":
        raise OverrideError("prompt: embeddings have none; replay from `summary`")
    changes: dict[str, dict[str, str]] = {first: {}}
    for name in ("provider", "model", _LANGUAGE):
        value: str | None = getattr(overrides, name)
        if value is not None:
            changes[first][name] = value
    if overrides.prompt is not None:
        changes.setdefault("summary", {})[_PROMPT] = overrides.prompt
    for section, values in changes.items():
        settings = _with(settings, section, values)
    return settings


def _with(settings: Settings, section: str, values: dict[str, str]) -> Settings:
    old: BaseModel = getattr(settings, section)
    for name, value in values.items():
        # A cloud provider's model is a setting of that provider's own.
        place = section if name in type(old).model_fields and not _own_model(settings, old, name) else ""
        target = place or str(getattr(old, "provider", ""))
        holder: BaseModel | None = getattr(settings, target, None)
        field = name if holder is not None and name in type(holder).model_fields else f"{section}_{name}"
        if holder is None or field not in type(holder).model_fields:
            raise OverrideError(f"{name}: {getattr(old, 'provider', section)} has none that could be chosen")
        try:
            new = type(holder).model_validate({**_values(holder), field: value})
        except ValidationError as error:
            raise OverrideError(f"{name}: {error.errors()[0]['msg']}") from None
        settings = settings.model_copy(update={target: new})
        old = getattr(settings, section)
    return settings


def _own_model(settings: Settings, section: BaseModel, name: str) -> bool:
    """Whether the section's provider keeps this setting by itself."""
    holder = getattr(settings, str(getattr(section, "provider", "")), None)
    return name == "model" and isinstance(holder, BaseModel) and name in type(holder).model_fields


def _values(model: BaseModel) -> dict[str, object]:
    return {name: getattr(model, name) for name in type(model).model_fields}
