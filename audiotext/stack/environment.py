"""Converts settings, secrets included, to environment variables for the services of a stack."""

import json
from collections.abc import Collection, Mapping

from pydantic import BaseModel, SecretStr

from core.settings import Settings

_PREFIX = "AUDIOTEXT_"
# Numeric libraries start one thread per core in every process by default; engines that need more set their own number.
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def to_variables(settings: Settings) -> dict[str, str]:
    """Returns the environment variables from which `core.settings.load` reads the same settings."""
    found: dict[str, str] = {}
    _collect(settings, _PREFIX, found)
    return found


def without_settings(parent: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment without our settings: for programs that need none, such as the embedded servers."""
    return {name: value for name, value in parent.items() if not name.upper().startswith(_PREFIX)}


def child_environment(
    parent: Mapping[str, str], settings: Settings, needed: Collection[str] | None = None
) -> dict[str, str]:
    """Returns the environment of a service: the parent's, but with exactly these settings.

    needed: the settings that the service needs, see `services.needed_settings`. Default: every setting.
    """
    env = without_settings(parent)
    for name in _ONE_THREAD:
        env.setdefault(name, "1")
    variables = to_variables(settings)
    if needed is not None:
        names = [_PREFIX + name.upper().replace(".", "__") for name in needed]
        variables = {
            variable: value
            for variable, value in variables.items()
            if any(variable == name or variable.startswith(name + "__") for name in names)
        }
    return env | {"PYTHONUNBUFFERED": "1"} | variables


def _json_value(value: object) -> object:
    """Returns a value inside a list or an object in JSON form, secrets in plain text."""
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
            found[variable] = json.dumps(value, default=_json_value)
        elif value is not None:
            found[variable] = str(value)
