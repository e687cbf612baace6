"""Summaries by Gemini: one request per call. A long call needs one per part, and further ones to merge the parts."""

import logging
from collections.abc import Mapping, Sequence

from google.genai import types
from pydantic import ValidationError

from core.health_check import Check
from core.settings import GeminiSettings, SummarySettings
from pipelines.providers.base import NOTHING_SAID, PerTenant, StepStore, SummaryJob
from pipelines.providers.gemini.chunking import chunk_turns, group_by_budget, max_tokens_of
from pipelines.providers.gemini.client import check_model, connect, estimated_tokens, translate_gemini_errors
from pipelines.providers.gemini.errors import blocked_prompt_error, finish_error
from pipelines.providers.gemini.prompt import (
    INSTRUCTION,
    REVISION,
    Draft,
    draft_type,
    instruction,
    prompt_of_drafts,
    prompt_of_turns,
    schema_of,
    summary_of,
    turns_of,
)
from pipelines.runtime.errors import BilledFailureError, StageError
from schemas.artifacts import Summary
from schemas.events import Tokens

logger = logging.getLogger(__name__)

# Calls with insults or threats are summarized like others. Filters that cannot be turned off stay on.
_SAFETY = [
    types.SafetySetting(category=category, threshold=types.HarmBlockThreshold.OFF)
    for category in (
        types.HarmCategory.HARM_CATEGORY_HARASSMENT,
        types.HarmCategory.HARM_CATEGORY_HATE_SPEECH,
        types.HarmCategory.HARM_CATEGORY_SEXUALLY_EXPLICIT,
        types.HarmCategory.HARM_CATEGORY_DANGEROUS_CONTENT,
    )
]


class GeminiSummarizer:
    """Summarizer that uses Gemini's structured output."""

    name = "gemini"

    def __init__(self, gemini: GeminiSettings, summary: SummarySettings, key: str) -> None:
        """Creates the client. It connects with the first request.

        Args:
            gemini: Settings of Gemini.
            summary: Settings of summaries.
            key: API key.
        """
        self.model = gemini.summary_model.removeprefix("models/")
        self._prompt = gemini.summary_prompt
        self._settings = summary
        self._client = connect(gemini, key, summary.timeout_s)

    def config(self) -> Mapping[str, object]:
        """Returns the model, the prompt, the tenants' fields and the limits."""
        return {
            "provider": self.name,
            "model": self.model,
            "prompt": self._prompt,
            "fields": PerTenant(
                {
                    tenant: {name: field.model_dump(mode="json") for name, field in fields.items()}
                    for tenant, fields in self._settings.fields.items()
                }
            ),
            "max_prompt_tokens": self._settings.max_prompt_tokens,
            "max_output_tokens": self._settings.max_output_tokens,
            "revision": REVISION,
        }

    async def summarize(self, job: SummaryJob) -> Summary:
        """Returns the summary of the call. Never repeats a request whose response is saved."""
        transcript = job.transcript
        turns = turns_of(transcript)
        if not turns:  # no request, no cost
            return Summary(
                call_id=transcript.call_id,
                provider=self.name,
                model=self.model,
                abstract=NOTHING_SAID,
                key_points=[],
                action_items=[],
            )
        requests = _DraftRequests(self, job.steps, draft_type(self._settings.fields.get(job.tenant, {})))
        parts = chunk_turns(turns, self._settings.max_prompt_tokens)
        drafts = [
            await requests.draft(
                f"stretch {number} of {len(parts)}", prompt_of_turns(transcript.language, part, number, len(parts))
            )
            for number, part in enumerate(parts, 1)
        ]
        draft = await self._merged(requests, transcript.language, drafts)
        return summary_of(draft, transcript, self.name, self.model)

    async def check(self) -> Check:
        """Checks that Gemini responds, accepts the key and has the model."""
        return await check_model(
            self._client,
            self.model,
            action="generateContent",
            setting="AUDIOTEXT_GEMINI__SUMMARY_MODEL",
        )

    async def generate(self, prompt: str, schema: Mapping[str, object]) -> types.GenerateContentResponse:
        """Sends one request. It is not repeated here."""
        with translate_gemini_errors():
            return await self._client.aio.models.generate_content(
                model=self.model,
                contents=types.Content(role="user", parts=[types.Part(text=prompt)]),
                config=types.GenerateContentConfig(
                    system_instruction=instruction(self._prompt),
                    response_mime_type="application/json",
                    response_json_schema=schema,
                    candidate_count=1,
                    max_output_tokens=self._settings.max_output_tokens,
                    safety_settings=_SAFETY,
                    automatic_continuation=False,
                ),
            )

    async def _merged(self, requests: "_DraftRequests", language: str, drafts: Sequence[Draft]) -> Draft:
        """Merges drafts into one, with as few requests as the budget allows."""
        level = 0
        while len(drafts) > 1:
            level += 1
            texts = [draft.model_dump_json() for draft in drafts]
            groups = group_by_budget(texts, self._settings.max_prompt_tokens, max_tokens_of, at_least=2)
            drafts = [
                await requests.merged(f"merging {number} of {len(groups)}, level {level}", language, group)
                for number, group in enumerate(groups, 1)
            ]
        return drafts[0]


class _DraftRequests:
    """The requests of one job. Each is sent once; its response is saved under the name of its step."""

    def __init__(self, gemini: GeminiSummarizer, steps: StepStore, draft: type[Draft]) -> None:
        self._gemini = gemini
        self._steps = steps
        self._draft = draft
        self._schema = schema_of(draft)

    async def draft(self, step: str, prompt: str) -> Draft:
        """Returns the answer to a step. A new answer is saved before it is used."""
        saved = await self._steps.step(step)
        if saved is not None:
            return self._draft.model_validate_json(saved)
        response = await self._gemini.generate(prompt, self._schema)
        tokens = tokens_counted(response, prompt)
        try:
            draft = self._read(response)
        except StageError:
            await self._steps.count_wasted(tokens)
            raise
        await self._steps.save_step(step, draft.model_dump_json(), tokens)
        return draft

    async def merged(self, step: str, language: str, drafts: Sequence[str]) -> Draft:
        """Merges several drafts. A single draft is returned as it is, which costs nothing."""
        if len(drafts) == 1:
            return self._draft.model_validate_json(drafts[0])
        return await self.draft(step, prompt_of_drafts(language, drafts))

    def _read(self, response: types.GenerateContentResponse) -> Draft:
        feedback = response.prompt_feedback
        if feedback is not None and feedback.block_reason is not None:
            raise blocked_prompt_error(
                f"{feedback.block_reason.value}: {feedback.block_reason_message or 'no reason given'}"
            )
        if not response.candidates:
            raise BilledFailureError("Gemini's response has no candidate")
        candidate = response.candidates[0]
        if stopped := finish_error(candidate.finish_reason, candidate.finish_message):
            raise stopped
        parts = (candidate.content.parts if candidate.content else None) or []
        text = "".join(part.text for part in parts if part.text and not part.thought)
        try:
            return self._draft.model_validate_json(text)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, at['loc']))}: {at['msg']}" for at in error.errors()[:3])
            # The message goes to the logs, so it must not contain the response: that repeats words of the call.
            raise BilledFailureError(f"Gemini's response does not match the schema: {problems}") from None


def tokens_counted(response: types.GenerateContentResponse, prompt: str) -> Tokens:
    """Returns the tokens that Gemini counted for a response to the prompt, or an estimate."""
    usage = response.usage_metadata
    if usage is None or not usage.prompt_token_count:
        texts = [part.text or "" for part in response.parts or ()]
        return Tokens(prompt=estimated_tokens(INSTRUCTION, prompt), candidates=estimated_tokens(*texts))
    return Tokens(
        prompt=(usage.prompt_token_count or 0) + (usage.tool_use_prompt_token_count or 0),
        candidates=usage.candidates_token_count or 0,
        thoughts=usage.thoughts_token_count or 0,
        cached=usage.cached_content_token_count or 0,
    )
