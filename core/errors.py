"""Which failures are a user's to mend: told in one line, without a stack trace."""

import errno


class UserError(Exception):
    """Base of what is told to the user as it is; the message says what to do."""


# Such errors of modules that know nothing of the command line, with the exit code each gives. By name: whoever asks
# does not have to import them, and what was never imported was never raised.
_EXIT_CODES = {
    "core.errors.UserError": 1,
    "core.settings.SettingsError": 2,
    "gateway.simulator.transport.CallRefusedError": 1,
    "gateway.simulator.encoders.UnsupportedPlayError": 1,
    "gateway.simulator.telephone_audio.AudioFileError": 1,
    "redpanda.client.LogUnavailableError": 1,
    "sinks.clickhouse.client.StoreUnavailableError": 1,
    "sinks.object_store.ObjectStoreError": 1,
    "sinks.qdrant.store.VectorStoreError": 1,
}


def exit_code(error: BaseException) -> int | None:
    """The exit code of a failure that the user can mend; None for a fault of ours."""
    for cls in type(error).__mro__:
        code = _EXIT_CODES.get(f"{cls.__module__}.{cls.__qualname__}")
        if code is not None:
            return code
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return 1
    return None
