"""The offline summarizer in the table of providers."""

from core.settings import Settings
from pipelines.providers.base import Summarizer
from pipelines.providers.spec import ProviderSpec


def _create(_settings: Settings) -> Summarizer:
    from pipelines.providers.extractive.summarizer import Extractive  # noqa: PLC0415

    return Extractive()


EXTRACTIVE: ProviderSpec[Summarizer] = ProviderSpec(name="extractive", create=_create)
