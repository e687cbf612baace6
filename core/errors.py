"""Errors that the user can fix. The command line prints them in one line, without a stack trace.

`UserError` is the base. A subclass sets `exit_code` if it differs from 1.
"""

import errno


class UserError(Exception):
    """Base of the errors that are printed as they are. The message says how to fix the problem."""

    exit_code = 1


class UsageError(UserError):
    """A command line or a request that is incomplete or contradicts itself."""

    exit_code = 2


def exit_code(error: BaseException) -> int | None:
    """Returns the exit code of an error that the user can fix, or None for a defect of ours."""
    if isinstance(error, UserError):
        return error.exit_code
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return 2
    return None
