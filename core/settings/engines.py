"""Settings of the engines: speech to text, summaries and embeddings, on this machine or at a provider."""

from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from core.languages import NAMES, Language
from core.settings.base import Section

OPENAI_URL = "https://api.openai.com/v1"
_URL = r"^https?://\S+$"


class SttSettings(Section):
    """Speech to text."""

    provider: Literal["whisper", "soniox", "openai"] = "whisper"
    """Engine for speech to text: whisper, soniox or openai."""
    model: str = "base"
    """Whisper model: base (99 languages), tiny.en, or a path to a CTranslate2 model."""
    language: Language | None = None
    """Language of the calls (ISO 639-1). If it is not set, the engine detects it."""
    timeout_s: float = Field(900.0, gt=0)
    """Deadline of one attempt (s)."""
    # Whisper shares the cores of this machine; a remote provider only makes us wait.
    concurrency: int | None = Field(None, ge=1)
    """Calls that one process transcribes at the same time. Default: whisper 1, openai 4, soniox 16."""
    per_minute: int | None = Field(None, ge=1)
    """Attempts that one process starts per minute. Default: no limit."""

    @model_validator(mode="after")
    def _language_is_known(self) -> Self:
        """Rejects a language that Whisper does not know. Other engines may know more languages than this list."""
        if self.provider == "whisper" and self.language is not None and self.language not in NAMES:
            raise ValueError(f"whisper does not know the language {self.language!r}: choose one of {', '.join(NAMES)}")
        return self


class SummaryField(Section):
    """A question that a tenant has about every call."""

    description: str = Field(min_length=1, max_length=500)
    """Description for the language model."""
    values: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = ()
    """Possible values. Default: any text."""


FieldName = Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,39}$")]


class SummarySettings(Section):
    """Summaries."""

    provider: Literal["extractive", "gemini"] = "extractive"
    """Engine for summaries: extractive (offline) or gemini."""
    timeout_s: float = Field(60.0, gt=0)
    """Deadline of one attempt (s)."""
    concurrency: int = Field(2, ge=1)
    """Calls that one process summarizes at the same time."""
    per_minute: int | None = Field(None, ge=1)
    """Attempts that one process starts per minute. Default: no limit."""
    fields: dict[str, dict[FieldName, SummaryField]] = {}
    """Questions about each call, by tenant: JSON {tenant: {name: {"description", "values"}}}. A language model
    answers them."""
    # Estimated with three bytes per token, the default is about five hours of talk.
    max_prompt_tokens: int = Field(60_000, ge=500)
    """Longer calls are summarized in parts, which are merged (estimated tokens)."""
    max_output_tokens: int = Field(8_192, ge=256)
    """Longest answer of a language model, including its reasoning (tokens)."""


class EmbeddingSettings(Section):
    """Embeddings."""

    provider: Literal["local", "gemini"] = "local"
    """Engine for the embeddings of search: local or gemini."""
    timeout_s: float = Field(60.0, gt=0)
    """Deadline of one attempt (s)."""
    concurrency: int = Field(2, ge=1)
    """Calls that one process embeds at the same time."""
    per_minute: int | None = Field(None, ge=1)
    """Attempts that one process starts per minute. Default: no limit."""
    min_score: float | None = Field(None, ge=-1, le=1)
    """Lowest cosine similarity of a search hit. Default: 0.25 for local, none for gemini."""


class SonioxSettings(Section):
    """Soniox, for speech to text."""

    api_key: SecretStr | None = None
    """API key of a Soniox project. A key belongs to one region."""
    base_url: str = Field("https://api.soniox.com/v1", pattern=_URL)
    """API of the key's region, for example https://api.eu.soniox.com/v1."""
    model: str = Field("stt-async-v5", max_length=32)
    """Asynchronous model of Soniox."""
    send: Literal["upload", "url"] = "upload"
    """upload, or url: Soniox downloads the audio from your object storage with a presigned URL, so it must be able
    to reach it."""
    language_hints: tuple[Language, ...] = ()
    """Languages to expect (JSON list of ISO 639-1, for example ["en","de"]). AUDIOTEXT_STT__LANGUAGE takes
    precedence."""
    terms: tuple[str, ...] = ()
    """Names and words to spell correctly (JSON list)."""
    tenant_terms: dict[str, tuple[str, ...]] = {}
    """Additional names and words per tenant (JSON object of lists)."""
    context: str | None = Field(None, max_length=8_000)
    """Subject of the calls, in a few sentences."""
    webhook_secret: SecretStr | None = Field(None, min_length=16, max_length=256)
    """Secret of Soniox' callbacks. With it and AUDIOTEXT_PUBLIC_URL Soniox reports finished jobs; without it we
    only poll."""

    @model_validator(mode="after")
    def _context_fits(self) -> Self:
        """Rejects a context that is longer than the 10,000 characters Soniox accepts."""
        longest = max((len("".join(terms)) + 4 * len(terms) for terms in self.tenant_terms.values()), default=0)
        if len(self.context or "") + len("".join(self.terms)) + 4 * len(self.terms) + longest > 9_900:
            raise ValueError("context and terms together are longer than the 10,000 characters that Soniox accepts")
        return self


class OpenAiSettings(Section):
    """Speech to text by OpenAI, or by any server with its /v1/audio/transcriptions (speaches, vLLM)."""

    api_key: SecretStr | None = None
    """API key of OpenAI or of a compatible server. Your own servers may not need one."""
    base_url: str = Field(OPENAI_URL, pattern=_URL)
    """Address of the server with its version, for example http://localhost:8000/v1."""
    model: str = "whisper-1"
    """Model that returns timestamps, for example whisper-1 or Systran/faster-whisper-large-v3."""
    prompt: str | None = Field(None, max_length=1_000)
    """Names and words to spell correctly, as a text."""
    timestamps: Literal["word", "segment"] = "word"
    """word, or segment for servers that reject word. Times of segments are coarser."""


class GeminiSettings(Section):
    """Gemini, for summaries and embeddings. `pricing.gemini_rates` sets the prices of its models."""

    api_key: SecretStr | None = None
    """API key of the Gemini API (aistudio.google.com/apikey)."""
    base_url: str = "https://generativelanguage.googleapis.com"
    """Address of the Gemini API."""
    summary_model: str = "gemini-3.5-flash-lite"
    """Model for summaries."""
    summary_prompt: str | None = Field(None, max_length=20_000)
    """Additional instructions for the summary, in your words."""
    embedding_model: str = "gemini-embedding-2"
    """Model for embeddings. Each model has its own collection in the vector store."""
    embedding_dimension: int = Field(768, ge=128, le=3072)
    """Length of the embedding vectors: 768, 1536 or 3072 work best."""
