"""The Gemini API (v1beta, REST) as a real server, after its reference: https://ai.google.dev/api

It checks the documented rules: the key in its header, existing models, the JSON Schema subset of structured output, the
limits of a batch, one embedding per request. Its model answers with the words of the question in the requested shape.
Its embeddings are of hashed words, so that texts with the same words are near.
"""

import asyncio
import hashlib
import json
import math
import re
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from aiohttp import web

KEY = "a-key-of-the-fake"
SUMMARIZERS = ("gemini-3.5-flash-lite", "gemini-3.5-flash")
EMBEDDERS = ("gemini-embedding-2", "gemini-embedding-001")
CONTRACT: dict[str, Any] = json.loads((files("tests.fakes") / "gemini_contract.json").read_text("utf-8"))

# Every error that the troubleshooting guide lists (https://ai.google.dev/gemini-api/docs/troubleshooting), and 401,
# which Google's gateway gives to a credential that is none: status, name, message.
ERRORS: tuple[tuple[int, str, str], ...] = (
    (400, "INVALID_ARGUMENT", "The request body is malformed."),
    (400, "FAILED_PRECONDITION", "Gemini API free tier is not available in your country."),
    (401, "UNAUTHENTICATED", "Request had invalid authentication credentials."),
    (403, "PERMISSION_DENIED", "Your API key doesn't have the required permissions."),
    (404, "NOT_FOUND", "The requested resource wasn't found."),
    (429, "RESOURCE_EXHAUSTED", "You've exceeded the rate limit."),
    (499, "CANCELLED", "The operation was cancelled."),
    (500, "INTERNAL", "An unexpected error occurred on Google's side."),
    (503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    (504, "DEADLINE_EXCEEDED", "The service is unable to finish processing within the deadline."),
)
BATCH = 100  # "at most 100 requests can be in one batch"
_SCHEMA_WORDS = {
    "$id", "$defs", "$ref", "$anchor", "type", "format", "title", "description", "enum", "items", "prefixItems",
    "minItems", "maxItems", "minimum", "maximum", "anyOf", "oneOf", "properties", "additionalProperties", "required",
    "propertyOrdering",
}  # fmt: skip
_INPUT_LIMIT = {"gemini-embedding-2": 8192, "gemini-embedding-001": 2048}
_GENERATE_LIMIT = 1_048_576


@dataclass(frozen=True)
class Answer:
    """Answer that replaces the model's own. text: None means no candidate."""

    text: str | None = ""
    finish: str = "STOP"
    block: str = ""
    tokens: tuple[int, int, int, int] = (100, 20, 5, 10)


@dataclass
class FakeGemini:
    """The server.

    script: the next answers, which replace its own: (status, body), the name of an example in the contract, an Answer,
    a number of seconds to wait before its own answer, or "cut" to close the connection after the request. counts:
    embeddings report their usage. asked: all requests as model, method and body.
    """

    script: list[Any] = field(default_factory=list)
    counts: bool = True
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listens on a free port."""
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_get("/v1beta/models/{model}", self._get_model)
        app.router.add_post("/v1beta/models/{name}", self._post)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Stops the server."""
        if self._runner:
            await self._runner.cleanup()

    async def _get_model(self, request: web.Request) -> web.Response:
        if request.headers.get("x-goog-api-key") != KEY:
            return _contract("a key that is none")
        model = request.match_info["model"]
        if model not in SUMMARIZERS + EMBEDDERS:
            return error(404, "NOT_FOUND", f"models/{model} is not found for API version v1beta.")
        able = ["generateContent", "countTokens"] if model in SUMMARIZERS else ["embedContent", "countTextTokens"]
        return web.json_response(
            {
                "name": f"models/{model}",
                "version": "001",
                "inputTokenLimit": _INPUT_LIMIT.get(model, _GENERATE_LIMIT),
                "outputTokenLimit": 65_536,
                "supportedGenerationMethods": able,
            }
        )

    async def _post(self, request: web.Request) -> web.Response:
        model, _, method = request.match_info["name"].partition(":")
        body = await request.json()
        self.asked.append((f"{model}:{method}", body))
        self.headers.append(dict(request.headers))
        if request.headers.get("x-goog-api-key") != KEY:
            return _contract("a key that is none")
        told = self.script.pop(0) if self.script else None
        if (instead := await _scripted(told, request)) is not None:
            return instead
        known = SUMMARIZERS if method == "generateContent" else EMBEDDERS
        if model not in known:
            return error(404, "NOT_FOUND", f"models/{model} is not found, or is not supported for {method}.")
        if method == "generateContent":
            return self._generate(body, told if isinstance(told, Answer) else None, model)
        if method == "batchEmbedContents":
            return self._embed(body, model)
        return error(404, "NOT_FOUND", f"there is no {method} here")

    def _generate(self, body: dict[str, Any], answer: Answer | None, model: str) -> web.Response:
        config = body.get("generationConfig", {})
        if problem := _problem_of(body):
            return error(400, "INVALID_ARGUMENT", problem)
        prompt = "".join(part["text"] for content in body["contents"] for part in content["parts"])
        sent = prompt + body.get("systemInstruction", {}).get("parts", [{"text": ""}])[0]["text"]
        if answer is None:
            text = json.dumps(_filled(config["responseJsonSchema"], json.loads(prompt)))
            answer = Answer(text, tokens=(tokens(sent), tokens(text), 7, 0))
            if answer.tokens[1] + 7 > config.get("maxOutputTokens", 65_536):
                answer = Answer(text[: len(text) // 2], "MAX_TOKENS", tokens=answer.tokens)
        counted = dict(
            zip(
                ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "cachedContentTokenCount"),
                answer.tokens,
                strict=True,
            )
        )
        said: dict[str, Any] = {"usageMetadata": counted, "modelVersion": model, "responseId": "r1"}
        if answer.block:
            said["promptFeedback"] = {"blockReason": answer.block}
        elif answer.text is not None:
            content = {"role": "model", "parts": [{"text": answer.text}]} if answer.text else {"role": "model"}
            said["candidates"] = [{"content": content, "finishReason": answer.finish, "index": 0}]
        return web.json_response(said)

    def _embed(self, body: dict[str, Any], model: str) -> web.Response:
        requests = body.get("requests", [])
        if not 1 <= len(requests) <= BATCH:
            return error(400, "INVALID_ARGUMENT", f"* BatchEmbedContentsRequest.requests: at most {BATCH} requests")
        embeddings = []
        counted = 0
        for asked in requests:
            if asked.get("model") != f"models/{model}":
                return error(400, "INVALID_ARGUMENT", "* model does not match the request")
            if model == "gemini-embedding-2" and "taskType" in asked:
                return error(400, "INVALID_ARGUMENT", f"task_type is not supported by models/{model}")
            text = "\n".join(part["text"] for part in asked["content"]["parts"])
            if not text.strip():
                return error(400, "INVALID_ARGUMENT", "* EmbedContentRequest.content contains an empty Part.")
            counted += tokens(text)
            values = vector(text, asked.get("outputDimensionality", 3072))
            if model == "gemini-embedding-001" and len(values) != 3072:
                values = [2 * value for value in values]  # only the full length comes normalized
            embeddings.append({"values": values})
        usage = {"promptTokenCount": counted, "promptTokenDetails": [{"modality": "TEXT", "tokenCount": counted}]}
        return web.json_response({"embeddings": embeddings} | ({"usageMetadata": usage} if self.counts else {}))


async def _scripted(told: Any, request: web.Request) -> web.Response | None:
    """Returns the scripted answer, or None for the server's own answer, perhaps after a delay."""
    match told:
        case "cut":
            if request.transport:
                request.transport.abort()
            return web.Response()
        case str(name):
            return _contract(name)
        case (int(status), dict(content)):
            return web.json_response(content, status=status)
        case (int(status), str(content)):
            return web.Response(status=status, text=content)
        case float(seconds):
            await asyncio.sleep(seconds)
    return None


def tokens(text: str) -> int:
    """Returns the number of tokens: one per four characters."""
    return -(-len(text) // 4)


def vector(text: str, dimension: int) -> list[float]:
    """Returns a vector of unit length of the words of a text, without the prefix for its purpose."""
    values = [0.0] * dimension
    for word in re.findall(r"\w+", re.sub(r"^(task: [^|]*\| query:|title: none \| text:)", "", text).lower()):
        values[int.from_bytes(hashlib.sha256(word.encode()).digest()[:4]) % dimension] += 1.0
    length = math.sqrt(sum(value * value for value in values)) or 1.0
    return [value / length for value in values]


def error(status: int, name: str, message: str) -> web.Response:
    """Returns an error answer in the format of Google's APIs."""
    return web.json_response(error_body(status, name, message), status=status)


def error_body(status: int, name: str, message: str) -> dict[str, Any]:
    """Returns the JSON of an error."""
    return {"error": {"code": status, "message": message, "status": name}}


def _contract(name: str) -> web.Response:
    return web.json_response(CONTRACT[name]["body"], status=CONTRACT[name]["status"])


def _problem_of(body: dict[str, Any]) -> str:  # noqa: PLR0911 - one rule after the other
    config = body.get("generationConfig", {})
    known = {"contents", "systemInstruction", "generationConfig", "safetySettings"}
    if unknown := set(body) - known:
        return f"Invalid JSON payload received. Unknown name {sorted(unknown)[0]!r}: Cannot find field."
    if not body.get("contents"):
        return "* GenerateContentRequest.contents: contents is not specified"
    if any(content.get("role") not in ("user", "model") for content in body["contents"]):
        return "Please use a valid role: user, model."
    if "responseJsonSchema" not in config:
        return "the fake answers structured questions only"
    if "responseSchema" in config or config.get("responseMimeType") != "application/json":
        return "response_json_schema needs response_mime_type application/json, and no response_schema"
    if "maxItems" in json.dumps(config["responseJsonSchema"]):
        # Documented, and refused: https://github.com/googleapis/python-genai/issues/2170. How much is too much moves.
        return "Request contains an invalid argument."
    if unknown := _unsupported(config["responseJsonSchema"]):
        return f"Unsupported JSON Schema keyword {sorted(unknown)[0]!r}"
    if not 1 <= config.get("maxOutputTokens", 1) <= 65_536:
        return "max_output_tokens must be in the range [1, 65537)"
    return ""


def _unsupported(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return {word for item in schema for word in _unsupported(item)}
    if not isinstance(schema, dict):
        return set()
    if "$ref" in schema and len(schema) > 1:
        return {"a property beside $ref"}
    found = set(schema) - _SCHEMA_WORDS
    for word, inner in schema.items():
        values = list(inner.values()) if word in ("properties", "$defs") else inner
        found |= set() if word in ("enum", "required") else _unsupported(values)
    return found


def _filled(schema: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    """Returns an answer in the shape of the schema, from the words of the question."""
    turns = asked.get("turns", [])
    said = [f"{turn['speaker']} said: {turn['text']}" for turn in turns] or [
        point for draft in asked["drafts"] for point in draft["key_points"]
    ]
    speakers = sorted(
        {turn["speaker"] for turn in turns}
        | {one["speaker"] for draft in asked.get("drafts", []) for one in draft["sentiment"]}
    )
    promised = [{"text": turn["text"][:200], "owner": turn["speaker"]} for turn in turns if "I'll" in turn["text"]] or [
        item for draft in asked.get("drafts", []) for item in draft["action_items"]
    ]
    answer: dict[str, Any] = {
        "abstract": " ".join(said)[:500],
        "topics": ["a call"],
        "key_points": [line[:900] for line in said[:20]],
        "action_items": promised[:20],
        "sentiment": [{"speaker": speaker, "sentiment": "neutral"} for speaker in speakers],
        "outcome": "follow_up" if promised else "other",
    }
    fields = schema["properties"].get("fields")
    if fields:
        wanted = schema["$defs"][fields["$ref"].rsplit("/", 1)[-1]] if "$ref" in fields else fields
        answer["fields"] = {
            name: next((one["enum"][0] for one in inner["anyOf"] if "enum" in one), f"a {name}")
            for name, inner in wanted["properties"].items()
        }
    return answer
