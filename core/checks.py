"""What a look at one system finds: a line of `audiotext doctor`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """One line of `audiotext doctor`.

    name: what was looked at, as a user knows it ("Soniox"). detail: what was found, version or model included; never a
    secret. cure: what to do, naming the setting; empty when ok.
    """

    name: str
    ok: bool
    detail: str
    cure: str = ""
