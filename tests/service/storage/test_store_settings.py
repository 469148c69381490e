"""Settings of the store that contradict each other, or cannot be used, stop the service's start."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from service.__main__ import main
from service.settings import Settings
from service.storage.factory import StoreSettingsError, open_store

SECRET = "very-secret-key"
KEYS = {"REFILM_S3_ACCESS_KEY": "access", "REFILM_S3_SECRET_KEY": SECRET}
SERVER = {"REFILM_S3_ENDPOINT": "http://127.0.0.1:1", **KEYS}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"REFILM_S3_ENDPOINT": "minio:9000"}, "REFILM_S3_ENDPOINT needs REFILM_S3_ACCESS_KEY"),
        (KEYS, "REFILM_S3_ACCESS_KEY is set and REFILM_S3_ENDPOINT is not"),
        (SERVER | {"REFILM_S3_SECRET_KEY_FILE": "/x"}, "REFILM_S3_SECRET_KEY_FILE are both set"),
        (SERVER | {"REFILM_S3_CA_FILE": "/x"}, "REFILM_S3_CA_FILE is for an endpoint with TLS"),
        (SERVER | {"REFILM_S3_SECURE": "true"}, "REFILM_S3_SECURE is for an endpoint without"),
        (SERVER | {"REFILM_S3_ENDPOINT": "ftp://minio"}, "REFILM_S3_ENDPOINT: must be https://"),
        (SERVER | {"REFILM_S3_ENDPOINT": "http://minio/refilm"}, "must be https://"),
        (SERVER | {"REFILM_S3_PUBLIC_ENDPOINT": "https://u:p@h"}, "REFILM_S3_PUBLIC_ENDPOINT"),
    ],
)
def test_contradictions_are_named(
    settings: dict[str, str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.argv", ["service"])
    assert main() == 2
    said = capsys.readouterr().err
    assert message in said
    assert SECRET not in said


def test_a_key_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    for file, message in ((tmp_path / "missing", "cannot read"), (empty, "is empty")):
        settings = Settings(
            s3_endpoint="http://127.0.0.1:1",
            s3_access_key=SecretStr("access"),
            s3_secret_key_file=file,
        )
        with pytest.raises(StoreSettingsError, match=f"REFILM_S3_SECRET_KEY_FILE: .*{message}"):
            open_store(settings)


def test_secrets_are_not_shown() -> None:
    settings = Settings(
        s3_endpoint="http://127.0.0.1:1",
        s3_access_key=SecretStr("access"),
        s3_secret_key=SecretStr(SECRET),
    )
    assert SECRET not in repr(settings) + str(settings.model_dump())
