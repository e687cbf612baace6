"""Settings of a replay: the installation's settings with the requested overrides. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from core.errors import UserError
from core.settings import Settings
from pipelines.providers import registry
from pipelines.providers.spec import ProviderSpec
from pipelines.replay.selection import TRANSCRIBING
from schemas.events import ReplayOverrides, ReplayStage

_MODEL, _LANGUAGE, _PROMPT = "model", "language", "prompt"
_SPECS: Mapping[str, Mapping[str, ProviderSpec[Any]]] = {
    "stt": registry.SPEECH_TO_TEXT,
    "summary": registry.SUMMARIES,
    "embedding": registry.EMBEDDINGS,
}


class OverrideError(UserError):
    """An override is not possible; the message says why."""


def overridden(settings: Settings, stage: ReplayStage, overrides: ReplayOverrides) -> Settings:
    """Returns the settings of a replay from that stage on. Raises OverrideError.

    Provider, model and language apply to the first engine of the replay, the prompt applies to the summary.
    """
    first = _first(stage)
    if overrides.language is not None and first != "stt":
        raise OverrideError(f"language: only transcription uses it; replay from `recording`, not from `{stage}`")
    if overrides.prompt is not None and stage == "embedding":
        raise OverrideError("prompt: embeddings do not use a prompt; replay from `summary`")
    changes: dict[str, dict[str, str]] = {first: {}}
    for name in ("provider", _MODEL, _LANGUAGE):
        value: str | None = getattr(overrides, name)
        if value is not None:
            changes[first][name] = value
    if overrides.prompt is not None:
        changes.setdefault("summary", {})[_PROMPT] = overrides.prompt
    for section, values in changes.items():
        settings = _with(settings, section, values)
    return settings


def require_choice(settings: Settings, stage: ReplayStage, overrides: ReplayOverrides, tenant: str | None) -> None:
    """Checks the engine that a request by HTTP chooses. Raises OverrideError.

    tenant: tenant of the key; None = it sees every tenant. A tenant's key may choose the configured engine and those in
    `replay.tenant_engines`. No key may choose a path on this machine: the error would say which paths exist.
    """
    if overrides.provider is None and overrides.model is None:
        return
    section = _first(stage)
    configured = _engine(settings, section)
    provider = overrides.provider or configured.provider
    allowed = settings.replay.tenant_engines.get(tenant, ()) if tenant is not None else ()
    if tenant is not None and provider != configured.provider and not any(_of(name, provider) for name in allowed):
        raise OverrideError(_not_allowed(configured, allowed))
    chosen = _engine(overridden(settings, stage, overrides), section)
    if chosen == configured:
        return
    if tenant is not None and f"{chosen.provider}:{chosen.model}" not in allowed:
        raise OverrideError(_not_allowed(configured, allowed))
    packaged = _SPECS[section][chosen.provider].packaged_models
    if packaged is not None and chosen.model not in packaged:
        raise OverrideError(f"model: choose one of {', '.join(packaged)}; a path can only be set on the command line")


@dataclass(frozen=True, slots=True)
class _Engine:
    """Provider and model. model: "" for a provider without the setting."""

    provider: str
    model: str


def _engine(settings: Settings, section: str) -> _Engine:
    provider: str = getattr(settings, section).provider
    try:
        holder, field = _locate(settings, section, _MODEL)
    except OverrideError:
        return _Engine(provider, "")
    return _Engine(provider, getattr(getattr(settings, holder), field))


def _of(name: str, provider: str) -> bool:
    return name.partition(":")[0] == provider


def _not_allowed(configured: _Engine, allowed: Sequence[str]) -> str:
    names = dict.fromkeys([f"{configured.provider}:{configured.model}".rstrip(":"), *allowed])
    return f"provider, model: this key may choose {', '.join(names)}; leave both out for the first one"


def _first(stage: ReplayStage) -> str:
    """Returns the section of the first engine that a replay from that stage uses."""
    return "stt" if stage in TRANSCRIBING else "embedding" if stage == "embedding" else "summary"


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
