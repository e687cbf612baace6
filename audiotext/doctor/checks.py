"""Runs all checks at the same time. Each has a timeout, so that a system that hangs does not block the command."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from api.auth.kratos import Kratos
from audiotext.doctor import environment, https, stages, stores
from audiotext.stack.datadir import START_OR_NAME_ONE
from core.checks import Check
from core.health_check import HealthCheck
from core.settings import Settings, SettingsError
from pipelines.providers import registry
from pipelines.stages import ENGINE_STAGES

_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class PlannedCheck:
    """Check that has not run yet: a blocking function, which runs in its own thread, or a coroutine function."""

    name: str
    blocking: Callable[[], Check] | None = None
    awaited: Callable[[], Awaitable[Check]] | None = None


def checks_for(settings: Settings, *, embedded: bool) -> list[PlannedCheck]:
    """Returns the checks for the settings. embedded: the log is that of `audiotext up`, which has fewer partitions."""
    found = _servers(settings, embedded=embedded)
    for name, make in (
        ("speech to text", registry.speech_to_text),
        ("summaries", registry.summarizer),
        ("embeddings", registry.embedder),
    ):
        found.append(_provider(name, settings, make))
    if settings.kratos.url:
        found.append(PlannedCheck("Ory Kratos", awaited=Kratos(settings.kratos, settings.kratos.url).check))
    watched = _watched_stages(settings)
    found += [PlannedCheck(f"requests: {name}", awaited=partial(stages.requests, name, url)) for name, url in watched]
    found += [
        PlannedCheck("public URL", awaited=lambda: https.public_url(settings)),
        PlannedCheck("admin key", lambda: environment.admin_key(settings)),
        PlannedCheck("time limits", lambda: environment.time_limits(settings)),
        PlannedCheck("carriers", lambda: environment.carriers(settings)),
        PlannedCheck("disk", lambda: environment.disk(settings.data_dir)),
    ]
    return found


def _servers(settings: Settings, *, embedded: bool) -> list[PlannedCheck]:
    """Returns the checks of the log and the stores, or one check that fails if there are none."""
    if not settings.has_servers:
        text = f"no running stack found in {settings.data_dir}, and no server is configured"
        nothing = Check("servers", False, text, START_OR_NAME_ONE)
        return [PlannedCheck(nothing.name, lambda: nothing)]
    return [
        PlannedCheck("log", lambda: stores.log(settings.kafka, embedded=embedded)),
        PlannedCheck("S3", lambda: stores.s3(settings.s3)),
        PlannedCheck("ClickHouse", lambda: stores.clickhouse(settings.clickhouse)),
        PlannedCheck("Qdrant", lambda: stores.qdrant(settings.qdrant)),
        PlannedCheck("clock", lambda: environment.clock(settings.s3)),
    ]


def _watched_stages(settings: Settings) -> list[tuple[str, str]]:
    """Returns the names and URLs of the services that send requests to an engine."""
    services = {spec.service for spec in ENGINE_STAGES.values()}
    return [(name, url) for name, url in settings.api.watched.items() if name in services]


async def run_checks(planned: Sequence[PlannedCheck], timeout_s: float = _TIMEOUT_S) -> list[Check]:
    """Returns the findings in the order of the checks, after `timeout_s` at the latest."""
    return list(await asyncio.gather(*(_run(check, timeout_s) for check in planned)))


def _provider(name: str, settings: Settings, make: Callable[[Settings], object]) -> PlannedCheck:
    """Returns the check of a provider.

    The provider is created here and not in a thread, because this imports its libraries.
    """
    try:
        provider = make(settings)
    except SettingsError as error:
        invalid = Check(name, False, str(error), "see `audiotext settings`")
        return PlannedCheck(name, lambda: invalid)
    except Exception as error:  # a model is missing or damaged; each engine has its own error type
        broken = Check(name, False, str(error), "install it again, or choose another provider")
        return PlannedCheck(name, lambda: broken)
    if isinstance(provider, HealthCheck):
        return PlannedCheck(name, awaited=provider.check)
    local = Check(name, True, f"{getattr(provider, 'name', name)} ({getattr(provider, 'model', '')}), on this machine")
    return PlannedCheck(name, lambda: local)


async def _run(check: PlannedCheck, timeout_s: float) -> Check:
    try:
        async with asyncio.timeout(timeout_s):
            if check.awaited is not None:
                found = await check.awaited()
                return found if found.name == check.name else _renamed(found, check.name)
            assert check.blocking is not None
            return await _in_thread(check.blocking, check.name)
    except TimeoutError:
        return Check(check.name, False, f"no answer within {timeout_s:g} s", "check whether it hangs, and the network")
    except Exception as error:
        return Check(check.name, False, f"{type(error).__name__}: {error}", "see the message")


def _renamed(found: Check, name: str) -> Check:
    """Returns the finding under another name. The old name, for example the provider's, begins the text."""
    return Check(name, found.ok, f"{found.name}: {found.detail}", found.fix)


def _in_thread(function: Callable[[], Check], name: str) -> "asyncio.Future[Check]":
    """Runs a function in a daemon thread, so that a client that hangs does not delay the end of the command."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Check] = loop.create_future()

    def settle(found: Check) -> None:
        if not future.done():
            future.set_result(found)

    def work() -> None:
        try:
            found = function()
        except Exception as error:
            found = Check(name, False, f"{type(error).__name__}: {error}", "see the message")
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, found)

    threading.Thread(target=work, name=f"doctor-{name}", daemon=True).start()
    return future
