"""Settings of what turns audio into words, and words into fewer, and into vectors: on this machine, or a provider's."""

from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from core.languages import NAMES, Language
from core.settings.stores import Section

OPENAI_URL = "https://api.openai.com/v1"
_URL = r"^https?://\S+$"


class SttSettings(Section):
    """Speech to text."""

    provider: Literal["whisper", "soniox", "openai"] = "whisper"
    model: str = "base"  # whisper: "base" (99 languages), "tiny.en", or a path to a CTranslate2 model
    language: Language | None = None  # ISO 639-1; None = the engine finds out
    timeout_s: float = Field(900.0, gt=0)  # of one attempt
    # Calls at the same time, per process; None = 1 with Whisper, which has this machine's cores to share, 4 with
    # openai, 16 with soniox, where all there is to do is to wait.
    concurrency: int | None = Field(None, ge=1)
    per_minute: int | None = Field(None, ge=1)  # attempts begun per minute and process; None = as many as there are

    @property
    def calls(self) -> int:
        """Calls at the same time, per process."""
        return self.concurrency or {"whisper": 1, "openai": 4, "soniox": 16}[self.provider]

    @model_validator(mode="after")
    def _language_is_known(self) -> Self:
        """Whisper would refuse every call; other engines' servers may know more languages than we do."""
        if self.provider == "whisper" and self.language is not None and self.language not in NAMES:
            raise ValueError(f"whisper knows no language {self.language!r}: choose one of {', '.join(NAMES)}")
        return self


class SummaryField(Section):
    """Something a tenant wants to know of every call. description: for the model; values: all it can be, if not any
    text."""

    description: str = Field(min_length=1, max_length=500)
    values: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = ()


FieldName = Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,39}$")]


class SummarySettings(Section):
    """Summaries."""

    provider: Literal["extractive", "gemini"] = "extractive"
    timeout_s: float = Field(60.0, gt=0)
    concurrency: int = Field(2, ge=1)
    per_minute: int | None = Field(None, ge=1)
    fields: dict[str, dict[FieldName, SummaryField]] = {}  # by tenant and name; a language model fills them in
    # A longer call is summarized in stretches, which are then merged. By our own estimate, three bytes a token: about
    # five hours of talk.
    max_prompt_tokens: int = Field(60_000, ge=500)
    max_output_tokens: int = Field(8_192, ge=256)  # of one answer, thoughts included


class EmbeddingSettings(Section):
    """Embeddings."""

    provider: Literal["local", "gemini"] = "local"
    timeout_s: float = Field(60.0, gt=0)
    concurrency: int = Field(2, ge=1)
    per_minute: int | None = Field(None, ge=1)


class SonioxSettings(Section):
    """Soniox, for speech to text. A key belongs to a region, and so does the URL (api.eu.soniox.com)."""

    api_key: SecretStr | None = None
    base_url: str = Field("https://api.soniox.com/v1", pattern=_URL)
    model: str = Field("stt-async-v5", max_length=32)
    # How it gets the audio: uploaded, or from a presigned URL of our object storage, which it must be able to reach.
    send: Literal["upload", "url"] = "upload"
    language_hints: tuple[Language, ...] = ()  # ISO 639-1, the expected ones; AUDIOTEXT_STT__LANGUAGE goes before it
    terms: tuple[str, ...] = ()  # names and words of the trade, so that they are spelled right
    tenant_terms: dict[str, tuple[str, ...]] = {}  # the same per tenant, in addition
    context: str | None = Field(None, max_length=8_000)  # what calls are about, in a few sentences
    # With it and AUDIOTEXT_PUBLIC_URL Soniox tells when an order is done; without, it is only asked.
    webhook_secret: SecretStr | None = Field(None, min_length=16, max_length=256)

    @model_validator(mode="after")
    def _context_fits(self) -> Self:
        """Soniox takes 10,000 characters, and would refuse every call of a tenant with more."""
        longest = max((len("".join(terms)) + 4 * len(terms) for terms in self.tenant_terms.values()), default=0)
        if len(self.context or "") + len("".join(self.terms)) + 4 * len(self.terms) + longest > 9_900:
            raise ValueError("context and terms together are longer than the 10,000 characters Soniox takes")
        return self


class OpenAiSettings(Section):
    """Speech to text by OpenAI, or by any server that speaks its /v1/audio/transcriptions (speaches, vLLM)."""

    api_key: SecretStr | None = None  # servers of your own may want none
    base_url: str = Field(OPENAI_URL, pattern=_URL)
    model: str = "whisper-1"
    prompt: str | None = Field(None, max_length=1_000)  # names and words to spell right, as a text
    timestamps: Literal["word", "segment"] = "word"  # "segment" for servers that refuse the other; times are coarser


class GeminiSettings(Section):
    """Gemini, for summaries and embeddings. What its models cost: pricing.gemini_rates."""

    api_key: SecretStr | None = None
    base_url: str = "https://generativelanguage.googleapis.com"
    summary_model: str = "gemini-3.5-flash-lite"
    summary_prompt: str | None = Field(None, max_length=20_000)  # what else to heed; the answer's shape stays
    embedding_model: str = "gemini-embedding-2"
    embedding_dimension: int = Field(768, ge=128, le=3072)
