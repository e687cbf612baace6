"""The settings a replay works with: this installation's, but for what was asked to be otherwise. Pure."""

from pydantic import BaseModel, ValidationError

from core.errors import UserError
from core.settings import Settings
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
    for name, value in values.items():
        holder, field = _place(settings, section, name)
        old: BaseModel = getattr(settings, holder)
        try:
            new = type(old).model_validate({**_values(old), field: value})
        except ValidationError as error:
            raise OverrideError(f"{name}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
        settings = settings.model_copy(update={holder: new})
    return settings


def _place(settings: Settings, section: str, name: str) -> tuple[str, str]:
    """Section and field of a setting. A cloud provider's model is that provider's own: soniox.model, or, where it does
    several things, gemini.summary_model."""
    provider: str = getattr(settings, section).provider
    own = type(getattr(settings, provider)).model_fields if hasattr(settings, provider) else {}
    for field in (f"{section}_{name}", name):
        if field in own:
            return provider, field
    if name in type(getattr(settings, section)).model_fields:
        return section, name
    raise OverrideError(f"{name}: {provider} has none that could be chosen")


def _values(model: BaseModel) -> dict[str, object]:
    return {name: getattr(model, name) for name in type(model).model_fields}
