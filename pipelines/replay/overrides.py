"""Settings of a replay: the installation's settings with the requested overrides. Pure."""

from pydantic import BaseModel, ValidationError

from core.errors import UserError
from core.settings import Settings
from pipelines.replay.selection import TRANSCRIBING
from schemas.events import ReplayOverrides, ReplayStage

_LANGUAGE, _PROMPT = "language", "prompt"


class OverrideError(UserError):
    """An override is not possible; the message says why."""


def overridden(settings: Settings, stage: ReplayStage, overrides: ReplayOverrides) -> Settings:
    """Returns the settings of a replay from that stage on. Raises OverrideError.

    Provider, model and language apply to the first engine of the replay, the prompt applies to the summary.
    """
    first = "stt" if stage in TRANSCRIBING else "embedding" if stage == "embedding" else "summary"
    if overrides.language is not None and first != "stt":
        raise OverrideError(f"language: only transcription uses it; replay from `recording`, not from `{stage}`")
    if overrides.prompt is not None and stage == "embedding":
        raise OverrideError("prompt: embeddings do not use a prompt; replay from `summary`")
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
        holder, field = _locate(settings, section, name)
        old: BaseModel = getattr(settings, holder)
        try:
            new = type(old).model_validate({**_values(old), field: value})
        except ValidationError as error:
            raise OverrideError(f"{name}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
        settings = settings.model_copy(update={holder: new})
    return settings


def _locate(settings: Settings, section: str, name: str) -> tuple[str, str]:
    """Returns section and field of a setting.

    A cloud provider's model is in the provider's section: soniox.model, or gemini.summary_model if the provider serves
    several stages.
    """
    provider: str = getattr(settings, section).provider
    own = type(getattr(settings, provider)).model_fields if hasattr(settings, provider) else {}
    for field in (f"{section}_{name}", name):
        if field in own:
            return provider, field
    if name in type(getattr(settings, section)).model_fields:
        return section, name
    raise OverrideError(f"{name}: {provider} has no such setting; leave it out")


def _values(model: BaseModel) -> dict[str, object]:
    return {name: getattr(model, name) for name in type(model).model_fields}
