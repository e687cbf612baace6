"""Registry of the carriers.

Each carrier is one module in this package. Its name is the `{carrier}` of `/v1/media/{carrier}`. A carrier module
translates the carrier's messages into the types of `gateway.carriers.base`. It defines a constant `CARRIER` that
implements `gateway.carriers.base.Carrier`, and does no I/O. `gateway.carriers.common` has the helpers that several
carriers use.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.carriers.base import Carrier

_NOT_CARRIERS = frozenset({"base", "common"})


def carrier_names() -> list[str]:
    """Returns the names of all carriers without importing their modules."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name not in _NOT_CARRIERS)


def load_carriers() -> Mapping[str, "Carrier"]:
    """Returns every carrier by its name."""
    return {name: importlib.import_module(f"{__name__}.{name}").CARRIER for name in carrier_names()}
