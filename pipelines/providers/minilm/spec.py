"""MiniLM in the table of providers."""

from importlib.util import find_spec

from core import package
from core.settings import Settings, SettingsError
from pipelines.providers.base import Embedder
from pipelines.providers.common import model_files
from pipelines.providers.spec import ProviderSpec, model_cache


def _create(settings: Settings) -> Embedder:
    from pipelines.providers.minilm.embedder import MiniLm  # noqa: PLC0415

    return MiniLm(model_cache(settings))


def _require(_settings: Settings) -> None:
    """Raises SettingsError with the command that installs the engine or the model."""
    if find_spec("onnxruntime") is None or find_spec("tokenizers") is None:
        raise SettingsError(f"the local embedding model is not installed: {package.install_extra('local')}")
    model_files.require_installed(model_files.MINILM)


MINILM: ProviderSpec[Embedder] = ProviderSpec(name="local", create=_create, require=_require, extra="local")
