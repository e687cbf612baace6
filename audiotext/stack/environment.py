"""Settings as environment variables: how a stack hands them, secrets among them, to the services it starts."""

import json
from collections.abc import Mapping

from pydantic import BaseModel, SecretStr

from core.settings import Settings

# Numeric libraries start a thread per core in every process otherwise; the engines that profit set their own number.
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def variables(settings: Settings) -> dict[str, str]:
    """The environment variables that make `core.settings.load` give these settings anywhere."""
    found: dict[str, str] = {}
    _collect(settings, "AUDIOTEXT_", found)
    return found


def child_environment(parent: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """What a service is started with: the parent's environment, but the settings exactly as given."""
    env = {name: value for name, value in parent.items() if not name.upper().startswith("AUDIOTEXT_")}
    for name in _ONE_THREAD:
        env.setdefault(name, "1")
    return env | {"PYTHONUNBUFFERED": "1"} | variables(settings)


def _plain(value: object) -> object:
    """A value inside a list or an object, secrets in the clear: whoever starts with them needs them."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return value.model_dump() if isinstance(value, BaseModel) else str(value)


def _collect(section: BaseModel, prefix: str, found: dict[str, str]) -> None:
    for name in type(section).model_fields:
        value: object = getattr(section, name)
        variable = prefix + name.upper()
        if isinstance(value, BaseModel):
            _collect(value, variable + "__", found)
        elif isinstance(value, SecretStr):
            found[variable] = value.get_secret_value()
        elif isinstance(value, (tuple, dict)):
            found[variable] = json.dumps(value, default=_plain)
        elif value is not None:
            found[variable] = str(value)
