"""Opens the store selected by the settings."""

from pathlib import Path

from pydantic import SecretStr

from service.settings import Settings
from service.storage.folder import FolderStore
from service.storage.metered import MeteredStore
from service.storage.objects import ObjectStore
from service.storage.s3.minio_client import S3Access
from service.storage.s3.store import S3Store


class StoreSettingsError(Exception):
    """The store's settings are invalid; the message says why."""


def open_store(settings: Settings) -> ObjectStore:
    """Return the library's store, without any request to it yet (see `ObjectStore.prepare`).

    Raises StoreSettingsError if a file named by a setting cannot be read.
    """
    if not settings.s3_endpoint:
        return MeteredStore(FolderStore(settings.storage_directory))
    if settings.s3_ca_file is not None:
        _readable(settings.s3_ca_file, "REFILM_S3_CA_FILE")
    return MeteredStore(
        S3Store(
            S3Access(
                endpoint=settings.s3_url,
                bucket=settings.s3_bucket,
                access_key=_key(
                    settings.s3_access_key, settings.s3_access_key_file, "REFILM_S3_ACCESS_KEY_FILE"
                ),
                secret_key=_key(
                    settings.s3_secret_key, settings.s3_secret_key_file, "REFILM_S3_SECRET_KEY_FILE"
                ),
                session_token=token.get_secret_value()
                if (token := settings.s3_session_token)
                else None,
                region=settings.s3_region,
                path_style=settings.s3_path_style,
                create_bucket=settings.s3_create_bucket,
                ca_file=settings.s3_ca_file,
                public_endpoint=settings.s3_public_url,
                connections=settings.storage_threads,
            )
        )
    )


def _key(value: SecretStr | None, file: Path | None, name: str) -> str:
    if value is not None:
        return value.get_secret_value()
    if file is None:
        raise StoreSettingsError(f"{name}: there is no such key")
    key = _readable(file, name).strip()
    if not key:
        raise StoreSettingsError(f"{name}: the file is empty")
    return key


def _readable(file: Path, name: str) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreSettingsError(f"{name}: cannot read the file: {error}") from None
