"""Opens the store that the settings name."""

from service.settings import Settings
from service.storage.folder import FolderStore
from service.storage.objects import ObjectStore


def open_store(settings: Settings) -> ObjectStore:
    """Return the library's store. Nothing is asked of it yet: see `ObjectStore.prepare`."""
    return FolderStore(settings.storage_directory)
