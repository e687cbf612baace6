"""Result of one check by `audiotext doctor`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """One line of `audiotext doctor`.

    name: the checked system, as a user knows it ("Soniox"). detail: the finding, version or model included; never a
    secret. fix: the action that repairs the problem, with the name of the setting; empty when ok.
    """

    name: str
    ok: bool
    detail: str
    fix: str = ""
