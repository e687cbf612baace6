"""MiniLM in the table of providers."""

from core.settings import Settings
from pipelines.providers.base import Embedder
from pipelines.providers.spec import ProviderSpec, model_cache


def _create(settings: Settings) -> Embedder:
    from pipelines.providers.minilm.embedder import MiniLm  # noqa: PLC0415

    return MiniLm(model_cache(settings))


MINILM: ProviderSpec[Embedder] = ProviderSpec(name="local", create=_create, extra="local")
