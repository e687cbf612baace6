"""Scope: the tenants whose calls a client sees."""

import pytest

from api.auth.key_authenticator import Principal
from api.auth.scope import Scope


def test_an_empty_scope_gives_no_filter() -> None:
    """Reads the tenant filter of each scope. If it fails, a request without credentials could see every tenant's
    calls, since None means every tenant for the stores.
    """
    assert Scope.ALL.tenant is None
    assert Scope.of("acme").tenant == "acme"
    with pytest.raises(PermissionError, match="without credentials"):
        _ = Scope.NONE.tenant


def test_a_principal_has_no_rights_by_default() -> None:
    """Creates a principal without a scope, as public routes do. If it fails, an endpoint that is public by mistake
    would show calls and costs.
    """
    principal = Principal()
    assert not principal.operator
    with pytest.raises(PermissionError):
        _ = principal.tenant
