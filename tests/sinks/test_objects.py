"""What the object store says of settings that cannot be used. Its work is tested where it is used."""

import pytest
from pydantic import SecretStr

from audiotext.errors import exit_code
from audiotext.settings import S3Settings, SettingsError
from sinks.objects import ObjectStore, ObjectStoreError

KEYS = {"access_key": "audiotext", "secret_key": SecretStr("hunter2")}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (S3Settings(), "AUDIOTEXT_S3__ENDPOINT"),
        (S3Settings(endpoint="http://127.0.0.1:9"), "AUDIOTEXT_S3__ACCESS_KEY"),
        (S3Settings(endpoint="http://127.0.0.1:99999", **KEYS), "AUDIOTEXT_S3__ENDPOINT.*port"),
        (S3Settings(endpoint="http://somebody:hunter2@127.0.0.1:9", **KEYS), "AUDIOTEXT_S3__ENDPOINT.*username"),
        (S3Settings(endpoint="http://127.0.0.1:9", region="over there", **KEYS), "AUDIOTEXT_S3__REGION.*over there"),
    ],
    ids=["nothing", "no credentials", "no port", "a user", "no region"],
)
def test_settings_that_cannot_be_used_are_named(settings: S3Settings, named: str) -> None:
    """Makes a store without or with broken settings: the error names the setting, the command line tells it in one
    line, and no secret is in it. It is no error of the store's: services wait for a store that is away, and would wait
    for one that is not configured for ever."""
    with pytest.raises(SettingsError, match=named) as raised:
        ObjectStore(settings)

    assert exit_code(raised.value) == 2
    assert not isinstance(raised.value, ObjectStoreError)
    assert "hunter2" not in str(raised.value)
