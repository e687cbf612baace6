"""Tests of settings passed to services as environment variables."""

from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import SecretStr

from audiotext.stack.environment import child_environment, to_variables
from core.settings import Settings, load, variable_names


def test_settings_survive_conversion_to_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Converts unusual settings to variables, loads them, and compares.

    A failure means that services run with other settings than the user gave.
    """
    given = load(
        data_dir=Path("elsewhere"),
        admin_key="geheim",
        kafka={"bootstrap_servers": "a:1,b:2", "instance_id": "x", "partitions": 3},
        s3={"secret_key": "s3-secret"},
        retry={"delays_s": [0.5, 2]},
        audiosocket={"allowed_peers": ["10.0.0.0/8"]},
        twilio={"signing_keys": {"k": "s1"}, "accounts": {"AC1": {"auth_token": "s2", "tenant": "acme"}}},
        exotel={"accounts": {"e": {"allowed_peers": ["10.1.0.0/16"], "password": "s3"}}},
        pricing={"price_per_unit": "0.00031"},
    )
    for name, value in to_variables(given).items():
        monkeypatch.setenv(name, value)
    assert load() == given
    assert load().pricing.price_per_unit == Decimal("0.00031")
    assert load().s3.secret_key == SecretStr("s3-secret")


def test_every_variable_is_a_setting() -> None:
    """Compares the generated variables with the settings: a service rejects unknown variables."""
    assert set(to_variables(Settings())) <= set(variable_names())


def test_children_get_only_the_current_settings() -> None:
    """Builds a child's environment from one with old AUDIOTEXT_ variables: they must not be in it.

    Numeric libraries must use one thread unless the user sets another number.
    """
    parent = {"PATH": "/bin", "AUDIOTEXT_S3__ENDPOINT": "http://old", "MKL_NUM_THREADS": "4"}
    env = child_environment(parent, Settings())
    assert env["PATH"] == "/bin"
    assert "AUDIOTEXT_S3__ENDPOINT" not in env
    assert (env["OMP_NUM_THREADS"], env["MKL_NUM_THREADS"], env["PYTHONUNBUFFERED"]) == ("1", "4", "1")
