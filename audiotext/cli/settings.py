"""`audiotext settings`."""

import argparse
import shutil
import sys
import textwrap

from pydantic import BaseModel, SecretStr

from core.settings import Settings, load

# What each setting means, in a line. A test sees to it that none is missing.
MEANINGS = {
    "AUDIOTEXT_DATA_DIR": "where `audiotext up` and the recorder keep their files",
    "AUDIOTEXT_ADMIN_KEY": "an API key that sees every tenant; without one, see `audiotext keys create`",
    "AUDIOTEXT_PUBLIC_URL": "how carriers reach the gateway: signatures are checked against it",
    "AUDIOTEXT_LOG_LEVEL": "DEBUG, INFO, WARNING or ERROR",
    "AUDIOTEXT_KAFKA__BOOTSTRAP_SERVERS": "the log: host:port,host:port; without, `audiotext up` embeds one",
    "AUDIOTEXT_KAFKA__SECURITY_PROTOCOL": "plaintext, ssl, sasl_plaintext or sasl_ssl",
    "AUDIOTEXT_KAFKA__SASL_MECHANISM": "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512",
    "AUDIOTEXT_KAFKA__SASL_USERNAME": "user at the log",
    "AUDIOTEXT_KAFKA__SASL_PASSWORD": "password at the log",
    "AUDIOTEXT_KAFKA__SSL_CA_LOCATION": "file with the certificate authority of the log",
    "AUDIOTEXT_KAFKA__SSL_CERTIFICATE_LOCATION": "file with a client certificate, where the log asks for one",
    "AUDIOTEXT_KAFKA__SSL_KEY_LOCATION": "and its key",
    "AUDIOTEXT_KAFKA__SSL_KEY_PASSWORD": "and the key's password",
    "AUDIOTEXT_KAFKA__INSTANCE_ID": "names this process in its group, so that a restart takes over at once",
    "AUDIOTEXT_KAFKA__SESSION_TIMEOUT_MS": "a consumer silent for so long loses its partitions (ms)",
    "AUDIOTEXT_KAFKA__PARTITIONS": "partitions of each topic, instead of what redpanda/topics.yaml says",
    "AUDIOTEXT_KAFKA__REPLICATION_FACTOR": "copies of each topic",
    "AUDIOTEXT_S3__ENDPOINT": "object storage: http(s)://host:port; without, `audiotext up` embeds one",
    "AUDIOTEXT_S3__ACCESS_KEY": "access key at the object storage",
    "AUDIOTEXT_S3__SECRET_KEY": "secret key at the object storage",
    "AUDIOTEXT_S3__SESSION_TOKEN": "of temporary credentials",
    "AUDIOTEXT_S3__REGION": "region of the object storage",
    "AUDIOTEXT_S3__BUCKET": "bucket for recordings, transcripts and summaries",
    "AUDIOTEXT_S3__ADDRESSING": "https://host/bucket: path; https://bucket.host: host; auto: host at AWS, else path",
    "AUDIOTEXT_S3__CA_FILE": "file with the certificate authority of the object storage",
    "AUDIOTEXT_S3__CERT_FILE": "file with a client certificate for it",
    "AUDIOTEXT_S3__KEY_FILE": "and its key",
    "AUDIOTEXT_CLICKHOUSE__DSN": "clickhouse://user:password@host:8123/database; without, `audiotext up` embeds one",
    "AUDIOTEXT_CLICKHOUSE__CA_FILE": "file with the certificate authority of ClickHouse (TLS: clickhouses://…:8443/…)",
    "AUDIOTEXT_CLICKHOUSE__CERT_FILE": "file with a client certificate; without a password in the DSN it signs in",
    "AUDIOTEXT_CLICKHOUSE__KEY_FILE": "and its key",
    "AUDIOTEXT_QDRANT__URL": "vector store: http(s)://host:port; without, `audiotext up` embeds one",
    "AUDIOTEXT_QDRANT__API_KEY": "key to the vector store",
    "AUDIOTEXT_QDRANT__CA_FILE": "file with the certificate authority of the vector store",
    "AUDIOTEXT_QDRANT__CERT_FILE": "file with a client certificate for it",
    "AUDIOTEXT_QDRANT__KEY_FILE": "and its key",
    "AUDIOTEXT_TWILIO__AUTH_TOKEN": "signs what Twilio sends; without, every Twilio call is refused",
    "AUDIOTEXT_TWILIO__TENANT": "whose calls Twilio's are",
    "AUDIOTEXT_TWILIO__SIGNING_KEYS": "secrets of Twilio's SHA-256 signatures by key id (JSON object)",
    "AUDIOTEXT_TWILIO__ACCOUNTS": 'several accounts by SID: JSON {SID: {"auth_token", "signing_keys", "tenant"}}',
    "AUDIOTEXT_TWILIO__SAY": "said to the caller before the call goes on",
    "AUDIOTEXT_TWILIO__DIAL": "the number or sip: address the call goes on to",
    "AUDIOTEXT_TWILIO__REDIRECT": "URL of your own answer, which the call goes on with",
    "AUDIOTEXT_TELNYX__STREAM_TOKEN": "proves Telnyx' media sockets; without, every one is refused",
    "AUDIOTEXT_TELNYX__PUBLIC_KEY": "checks the signature of Telnyx' webhooks; without, every one is refused",
    "AUDIOTEXT_SIGNALWIRE__STREAM_TOKEN": "proves SignalWire's media sockets; without, every one is refused",
    "AUDIOTEXT_SIGNALWIRE__SIGNING_KEY": "checks the signature of SignalWire's webhooks; without, every one is refused",
    "AUDIOTEXT_TELNYX__TENANT": "whose calls Telnyx' are",
    "AUDIOTEXT_TELNYX__L16_BYTE_ORDER": "byte order of Telnyx' linear audio",
    "AUDIOTEXT_TELNYX__ACCOUNTS": 'several accounts by user id: JSON {id: {"stream_token", "public_key", "tenant"}}',
    "AUDIOTEXT_TELNYX__SAY": "said to the caller before the call goes on",
    "AUDIOTEXT_TELNYX__DIAL": "the number or sip: address the call goes on to",
    "AUDIOTEXT_TELNYX__REDIRECT": "URL of your own answer, which the call goes on with",
    "AUDIOTEXT_SIGNALWIRE__TENANT": "whose calls SignalWire's are",
    "AUDIOTEXT_SIGNALWIRE__L16_BYTE_ORDER": "byte order of SignalWire's linear audio",
    "AUDIOTEXT_SIGNALWIRE__ACCOUNTS": 'several projects by id: JSON {id: {"stream_token", "signing_key", "tenant"}}',
    "AUDIOTEXT_SIGNALWIRE__SAY": "said to the caller before the call goes on",
    "AUDIOTEXT_SIGNALWIRE__DIAL": "the number or sip: address the call goes on to",
    "AUDIOTEXT_SIGNALWIRE__REDIRECT": "URL of your own answer, which the call goes on with",
    "AUDIOTEXT_PLIVO__TENANT": "whose calls Plivo's are",
    "AUDIOTEXT_PLIVO__L16_BYTE_ORDER": "byte order of Plivo's linear audio",
    "AUDIOTEXT_PLIVO__AUTH_TOKEN": "signs what Plivo sends; without, it is refused",
    "AUDIOTEXT_PLIVO__ACCOUNTS": 'several accounts by auth id: JSON {id: {"auth_token", "tenant"}}',
    "AUDIOTEXT_PLIVO__SAY": "said to the caller before the call goes on",
    "AUDIOTEXT_PLIVO__DIAL": "the number or sip: address the call goes on to",
    "AUDIOTEXT_PLIVO__REDIRECT": "URL of your own answer, which the call goes on with",
    "AUDIOTEXT_EXOTEL__TENANT": "whose calls Exotel's are",
    "AUDIOTEXT_EXOTEL__USERNAME": "HTTP Basic user of Exotel's requests",
    "AUDIOTEXT_EXOTEL__PASSWORD": "and the password",
    "AUDIOTEXT_EXOTEL__ALLOWED_PEERS": "networks Exotel's requests come from (JSON list)",
    "AUDIOTEXT_EXOTEL__ACCOUNTS": "several accounts by id: JSON {id: {the four settings above}}",
    "AUDIOTEXT_VONAGE__TENANT": "whose calls Vonage's are",
    "AUDIOTEXT_VONAGE__SIGNATURE_SECRET": "the account's signature secret: webhooks have to be signed with it",
    "AUDIOTEXT_VONAGE__USERNAME": "HTTP Basic user of Vonage's requests, where no signature secret is set",
    "AUDIOTEXT_VONAGE__PASSWORD": "and the password",
    "AUDIOTEXT_VONAGE__ALLOWED_PEERS": "networks Vonage's requests come from (JSON list)",
    "AUDIOTEXT_VONAGE__ACCOUNTS": "several accounts by API key: JSON {key: {the settings above}}",
    "AUDIOTEXT_VONAGE__SAY": "said to the caller before the call goes on",
    "AUDIOTEXT_JAMBONZ__TENANT": "whose calls jambonz' are",
    "AUDIOTEXT_JAMBONZ__USERNAME": "HTTP Basic user of jambonz's requests",
    "AUDIOTEXT_JAMBONZ__PASSWORD": "and the password",
    "AUDIOTEXT_JAMBONZ__ALLOWED_PEERS": "networks jambonz's requests come from (JSON list)",
    "AUDIOTEXT_JAMBONZ__ACCOUNTS": "several accounts by id: JSON {id: {the four settings above}}",
    "AUDIOTEXT_JAMBONZ__SAY": "said to the caller before the call goes on",
    "AUDIOTEXT_JAMBONZ__DIAL": "the number or sip: address the call goes on to",
    "AUDIOTEXT_JAMBONZ__REDIRECT": "URL of your own answer, which the call goes on with",
    "AUDIOTEXT_AUDIOSOCKET__HOST": "address the AudioSocket listener (Asterisk) binds",
    "AUDIOTEXT_AUDIOSOCKET__PORT": "its port; without one it does not listen",
    "AUDIOTEXT_AUDIOSOCKET__ALLOWED_PEERS": "networks whose AudioSocket calls are taken (JSON list)",
    "AUDIOTEXT_AUDIOSOCKET__TENANT": "whose calls AudioSocket's are",
    "AUDIOTEXT_GATEWAY__HOST": "address the gateway listens on",
    "AUDIOTEXT_GATEWAY__PORT": "port the gateway listens on",
    "AUDIOTEXT_GATEWAY__MERGE_MS": "audio per record of call.media and track (ms)",
    "AUDIOTEXT_GATEWAY__BUFFER_BYTES": "audio held for a log that is slow or away (bytes)",
    "AUDIOTEXT_GATEWAY__MAX_MESSAGE_BYTES": "largest message taken from a carrier (bytes)",
    "AUDIOTEXT_GATEWAY__IDLE_TIMEOUT_S": "a media socket silent for so long is closed (s)",
    "AUDIOTEXT_GATEWAY__START_TIMEOUT_S": "a media socket whose stream has not started by then is closed (s)",
    "AUDIOTEXT_GATEWAY__HANDSHAKE_TIMEOUT_S": "a connection that has made no request by then is closed (s)",
    "AUDIOTEXT_GATEWAY__MAX_UNPROVEN_SOCKETS": "media sockets that may wait for the token in their start, per gateway",
    "AUDIOTEXT_GATEWAY__MAX_STRANGER_REQUESTS": "requests in 10 s of an address that has proved nothing yet",
    "AUDIOTEXT_GATEWAY__MAX_UNPROVEN_REQUESTS": "the same of all such addresses together, carriers' requests aside",
    "AUDIOTEXT_GATEWAY__UNLIMITED_PEERS": "networks without those limits; by default the private ones (JSON list)",
    "AUDIOTEXT_GATEWAY__MAX_SPEED": "a stream that sends more than so many times real time is closed",
    "AUDIOTEXT_GATEWAY__MAX_STREAMS_PER_CALL": "streams of one call at the same time, per gateway",
    "AUDIOTEXT_GATEWAY__MAX_CALLS_PER_TENANT": "calls of one tenant at the same time, per gateway",
    "AUDIOTEXT_GATEWAY__CALL_END_DELAY_S": "a webhook may say so long before the last audio that the call is over (s)",
    "AUDIOTEXT_GATEWAY__STREAM_TOKEN_SECRET": "signs stream tokens, 16 characters or more; `audiotext up` makes one up",
    "AUDIOTEXT_GATEWAY__STREAM_TOKEN_TTL_S": "a stream token is good for so long (s)",
    "AUDIOTEXT_GATEWAY__TRUSTED_PROXIES": "networks of proxies whose X-Forwarded-For is believed (JSON list)",
    "AUDIOTEXT_GATEWAY__DRAIN_TIMEOUT_S": "how long shutdown waits for the log to take what is held (s)",
    "AUDIOTEXT_GATEWAY__API_URL": "where what is not a carrier's path is passed on to",
    "AUDIOTEXT_API__HOST": "address the API listens on",
    "AUDIOTEXT_API__PORT": "port the API listens on; under `audiotext up` any other if it is taken",
    "AUDIOTEXT_API__SESSION_SECRET": "signs sessions and links; a new one ends them all; made up by `audiotext up`",
    "AUDIOTEXT_API__SESSION_TTL_S": "seconds after which a browser has to sign in again",
    "AUDIOTEXT_API__WATCHED": 'services on the operations page: JSON {name: "http://host:port"} of /healthz, /metrics',
    "AUDIOTEXT_KRATOS__URL": "public API of Ory Kratos, whose sessions the API then takes; without, keys only",
    "AUDIOTEXT_KRATOS__COOKIE": "the name of its cookie",
    "AUDIOTEXT_KRATOS__TENANT_FIELD": "where an identity's tenant is: metadata_public.… (or traits.…)",
    "AUDIOTEXT_KRATOS__TENANTS": "tenants by identity id, before that field (JSON object)",
    "AUDIOTEXT_KRATOS__ADMINS": "ids of identities that see every tenant (JSON list)",
    "AUDIOTEXT_KRATOS__LOGIN_URL": "where people sign in with their account: a link on the sign-in page",
    "AUDIOTEXT_KRATOS__CACHE_S": "how long a session that was ended may still work (s)",
    "AUDIOTEXT_RECORDER__GRACE_MS": "after its last stream ended, a call waits so long for another (ms)",
    "AUDIOTEXT_RECORDER__IDLE_TIMEOUT_MS": "a call silent for so long is closed (ms)",
    "AUDIOTEXT_RECORDER__COMMIT_INTERVAL_S": "how often audio is fsynced and offsets committed (s)",
    "AUDIOTEXT_RECORDER__UPLOADS": "recordings finished at the same time",
    "AUDIOTEXT_STT__PROVIDER": "speech to text: whisper, soniox or openai",
    "AUDIOTEXT_STT__MODEL": "base (99 languages), tiny.en, or a path to a CTranslate2 model",
    "AUDIOTEXT_STT__LANGUAGE": "ISO 639-1; without, the engine finds out",
    "AUDIOTEXT_STT__TIMEOUT_S": "deadline of one attempt (s)",
    "AUDIOTEXT_STT__CONCURRENCY": "calls at the same time, per process; without: whisper 1, openai 4, soniox 16",
    "AUDIOTEXT_STT__PER_MINUTE": "attempts begun per minute, per process; without, as many as there are",
    "AUDIOTEXT_SUMMARY__PROVIDER": "summaries: extractive or gemini",
    "AUDIOTEXT_SUMMARY__TIMEOUT_S": "deadline of one attempt (s)",
    "AUDIOTEXT_SUMMARY__CONCURRENCY": "calls summarized at the same time, per process",
    "AUDIOTEXT_SUMMARY__PER_MINUTE": "attempts begun per minute, per process; without, as many as there are",
    "AUDIOTEXT_SUMMARY__FIELDS": 'asked of each call, by tenant: JSON {tenant: {name: {"description", "values"}}}',
    "AUDIOTEXT_SUMMARY__MAX_PROMPT_TOKENS": "longer calls are summarized in stretches and merged (estimated tokens)",
    "AUDIOTEXT_SUMMARY__MAX_OUTPUT_TOKENS": "longest answer of a language model, its thoughts included (tokens)",
    "AUDIOTEXT_EMBEDDING__PROVIDER": "embeddings for search: local or gemini",
    "AUDIOTEXT_EMBEDDING__TIMEOUT_S": "deadline of one attempt (s)",
    "AUDIOTEXT_EMBEDDING__CONCURRENCY": "calls embedded at the same time, per process",
    "AUDIOTEXT_EMBEDDING__PER_MINUTE": "attempts begun per minute, per process; without, as many as there are",
    "AUDIOTEXT_SONIOX__API_KEY": "key of a Soniox project",
    "AUDIOTEXT_SONIOX__BASE_URL": "API of the key's region",
    "AUDIOTEXT_SONIOX__MODEL": "an asynchronous model of Soniox",
    "AUDIOTEXT_SONIOX__SEND": "upload, or url: Soniox fetches audio from your object storage, if it can reach it",
    "AUDIOTEXT_SONIOX__LANGUAGE_HINTS": 'languages to expect (JSON list of ISO 639-1: ["en","de"])',
    "AUDIOTEXT_SONIOX__TERMS": "names and words to spell right (JSON list)",
    "AUDIOTEXT_SONIOX__TENANT_TERMS": "the same per tenant, in addition (JSON object of lists)",
    "AUDIOTEXT_SONIOX__CONTEXT": "what calls are about, in a few sentences",
    "AUDIOTEXT_SONIOX__WEBHOOK_SECRET": "with it and AUDIOTEXT_PUBLIC_URL Soniox tells when an order is done",
    "AUDIOTEXT_OPENAI__API_KEY": "key of OpenAI, or of a server that speaks its /v1/audio/transcriptions",
    "AUDIOTEXT_OPENAI__BASE_URL": "that server, with its version: http://localhost:8000/v1",
    "AUDIOTEXT_OPENAI__MODEL": "a model that gives times: whisper-1, Systran/faster-whisper-large-v3",
    "AUDIOTEXT_OPENAI__PROMPT": "names and words to spell right, as a text",
    "AUDIOTEXT_OPENAI__TIMESTAMPS": "word, or segment for servers that refuse it",
    "AUDIOTEXT_REPLAY__CONCURRENCY": "replays' jobs at the same time, per process",
    "AUDIOTEXT_REPLAY__PER_MINUTE": "replays' jobs begun per minute and process; without, as fast as it goes",
    "AUDIOTEXT_REPLAY__TIMEOUT_S": "of one attempt at a replay's job (s)",
    "AUDIOTEXT_PRICING__CHARGE_REPLAYS": 'whether a replay with other settings is charged: JSON {tenant: true}, "*"',
    "AUDIOTEXT_GEMINI__API_KEY": "key of the Gemini API (aistudio.google.com/apikey)",
    "AUDIOTEXT_GEMINI__BASE_URL": "where the Gemini API is",
    "AUDIOTEXT_GEMINI__SUMMARY_MODEL": "the model that summarizes",
    "AUDIOTEXT_GEMINI__SUMMARY_PROMPT": "what it is to heed besides, in your words",
    "AUDIOTEXT_GEMINI__EMBEDDING_MODEL": "the model that embeds; another one has a collection of its own",
    "AUDIOTEXT_GEMINI__EMBEDDING_DIMENSION": "length of its vectors: 768, 1536 or 3072 do best",
    "AUDIOTEXT_RETRY__DELAYS_S": "waits before attempt 2, 3, …, then the dead letters (JSON list of s)",
    "AUDIOTEXT_RETRY__OUTAGE_PAUSE_S": "how long a stage waits when its provider is away altogether (s)",
    "AUDIOTEXT_PRICING__CURRENCY": "currency of every amount",
    "AUDIOTEXT_PRICING__PRICE_PER_UNIT": "what a customer pays per unit, 50 units a minute",
    "AUDIOTEXT_PRICING__WHISPER_PER_HOUR": "what an hour of audio costs you with whisper",
    "AUDIOTEXT_PRICING__SONIOX_PER_HOUR": "what an hour of audio costs you with soniox",
    "AUDIOTEXT_PRICING__OPENAI_PER_HOUR": "what an hour of audio costs you with openai",
    "AUDIOTEXT_METRICS__HOST": "address /metrics and /healthz of recorder, stages and sinks listen on",
    "AUDIOTEXT_METRICS__PORT": "their port, under `audiotext up` the first of one each; without, there are none",
    "AUDIOTEXT_PRICING__PRICE_PER_SUMMARY": "what a customer pays for a call's summary",
    "AUDIOTEXT_PRICING__PRICE_PER_EMBEDDING": "what a customer pays for a call's being searchable",
    "AUDIOTEXT_PRICING__BUNDLED": 'what others charge, to compare: JSON {name: {"per_minute", "currency", "source"}}',
    "AUDIOTEXT_PRICING__GEMINI_RATES": 'what a million tokens cost you: JSON {model: {"input", "output", "cached"}}',
}


def run(_args: argparse.Namespace) -> int:
    """Prints all settings, each with what it means below it; what differs from its default has a star."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    defaults = dict(rows(Settings.model_construct()))
    for variable, value in rows(load()):
        default = defaults[variable]
        told = f"{variable}  {value}" if value == default else f"{variable}  {value}*  ({default})"
        print(_fitting(told, "        ", width))
        print(_fitting("    " + MEANINGS.get(variable, ""), "    ", width))
    return 0


def _fitting(text: str, indent: str, width: int | None) -> str:
    """In as many lines as it takes; in one where nobody looks, so that it can be searched."""
    if width is None:
        return text
    return textwrap.fill(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def rows(section: BaseModel, prefix: str = "AUDIOTEXT_") -> list[tuple[str, str]]:
    """Each setting's variable and its value as text, secrets masked, nothing as "-"."""
    found: list[tuple[str, str]] = []
    for name in type(section).model_fields:
        value: object = getattr(section, name)
        variable = prefix + name.upper()
        if isinstance(value, BaseModel):
            found += rows(value, variable + "__")
        elif isinstance(value, SecretStr):
            found.append((variable, "****"))
        elif isinstance(value, tuple):
            found.append((variable, "[" + ", ".join(str(item) for item in value) + "]"))
        elif isinstance(value, dict):  # by name, which is no secret; what they hold may be one
            found.append((variable, "{" + ", ".join(value) + "}"))
        else:
            found.append((variable, "-" if value is None else str(value)))
    return found
