"""Settings of a log as environment variables, and back."""

from collections.abc import Mapping

from audiotext.stack import environment
from core.settings import KafkaSettings, Settings

_PREFIX = "AUDIOTEXT_KAFKA__"


def from_variables(variables: Mapping[str, str]) -> KafkaSettings:
    """Returns the settings in the AUDIOTEXT_KAFKA__… variables, for example those of an embedded log."""
    own = {name.removeprefix(_PREFIX): value for name, value in variables.items() if name.startswith(_PREFIX)}
    return KafkaSettings.model_validate({name.lower(): value for name, value in own.items()})


def to_variables(kafka: KafkaSettings) -> dict[str, str]:
    """Returns the AUDIOTEXT_KAFKA__… variables with which a process connects to the log."""
    variables = environment.to_variables(Settings(kafka=kafka))
    return {name: value for name, value in variables.items() if name.startswith(_PREFIX)}
