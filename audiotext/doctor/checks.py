"""All checks at the same time, each bounded: a system that hangs is a line, not a doctor that hangs."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from api.auth.kratos import Kratos
from audiotext.doctor import environment, stages, stores
from core.checks import Check
from core.health_check import HealthCheck
from core.settings import Settings, SettingsError
from pipelines.providers import registry

_TIMEOUT_S = 10.0
_ASKING = ("transcriber", "summarizer", "embedder")


@dataclass(frozen=True, slots=True)
class Look:
    """A check to be made. blocking: it runs in a thread of its own."""

    name: str
    blocking: Callable[[], Check] | None = None
    awaited: Callable[[], Awaitable[Check]] | None = None


def looks(settings: Settings, *, embedded: bool) -> list[Look]:
    """What there is to look at. embedded: the log is that of `audiotext up`, whose topics are smaller."""
    found = [
        Look("log", lambda: stores.log(settings.kafka, embedded=embedded)),
        Look("S3", lambda: stores.s3(settings.s3)),
        Look("ClickHouse", lambda: stores.clickhouse(settings.clickhouse)),
        Look("Qdrant", lambda: stores.qdrant(settings.qdrant)),
        Look("clock", lambda: environment.clock(settings.s3)),
    ]
    for name, make in (
        ("speech to text", registry.speech_to_text),
        ("summaries", registry.summarizer),
        ("embeddings", registry.embedder),
    ):
        found.append(_provider(name, settings, make))
    if settings.kratos.url:
        found.append(Look("Ory Kratos", awaited=Kratos(settings.kratos, settings.kratos.url).check))
    found += [Look(f"requests: {name}", awaited=partial(stages.requests, name, url)) for name, url in _stages(settings)]
    found += [
        Look("public URL", awaited=lambda: environment.public_url(settings)),
        Look("admin key", lambda: environment.admin_key(settings)),
        Look("time limits", lambda: environment.time_limits(settings)),
        Look("carriers", lambda: environment.carriers(settings)),
        Look("disk", lambda: environment.disk(settings.data_dir)),
    ]
    return found


def _stages(settings: Settings) -> list[tuple[str, str]]:
    """Names and addresses of the services whose work is requests to an engine."""
    return [(name, url) for name, url in settings.api.watched.items() if name in _ASKING]


async def examine(todo: Sequence[Look], timeout_s: float = _TIMEOUT_S) -> list[Check]:
    """The findings, in the order of what was asked, after `timeout_s` at the latest."""
    return list(await asyncio.gather(*(_look(look, timeout_s) for look in todo)))


def _provider(name: str, settings: Settings, make: Callable[[Settings], object]) -> Look:
    """Made here and not in a thread: what a provider is made of is imported then."""
    try:
        provider = make(settings)
    except SettingsError as error:
        refused = Check(name, False, str(error), "see `audiotext settings`")
        return Look(name, lambda: refused)
    except Exception as error:  # a model that is not installed or not the original; each engine has its own
        broken = Check(name, False, str(error), "install it again, or choose another provider")
        return Look(name, lambda: broken)
    if isinstance(provider, HealthCheck):
        return Look(name, awaited=provider.check)
    here = Check(name, True, f"{getattr(provider, 'name', name)} ({getattr(provider, 'model', '')}), on this machine")
    return Look(name, lambda: here)


async def _look(look: Look, timeout_s: float) -> Check:
    try:
        async with asyncio.timeout(timeout_s):
            if look.awaited is not None:
                found = await look.awaited()
                # Under the same heading whatever is behind it; the provider's own name leads its finding.
                return found if found.name == look.name else _headed(look.name, found)
            assert look.blocking is not None
            return await _in_thread(look.blocking, look.name)
    except TimeoutError:
        return Check(look.name, False, f"no answer within {timeout_s:g} s", "look whether it hangs, and at the network")
    except Exception as error:
        return Check(look.name, False, f"{type(error).__name__}: {error}", "see the message")


def _headed(name: str, found: Check) -> Check:
    return Check(name, found.ok, f"{found.name}: {found.detail}", found.fix)


def _in_thread(function: Callable[[], Check], name: str) -> "asyncio.Future[Check]":
    """A daemon thread, since one that hangs in a client must not hold up the end of the command."""
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
