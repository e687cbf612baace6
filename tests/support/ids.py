"""Ids that are used only once, so that tests can share servers."""

import uuid


def new_call() -> str:
    """Returns a call id that no other test uses."""
    return f"CA{uuid.uuid4().hex}"
