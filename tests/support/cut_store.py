"""A store that stops after some changes, as for a process that is killed there."""

from collections.abc import Iterable, Sequence

from service.storage.objects import ObjectStore


class CutStore:
    """Wraps a store that cannot be changed any more after some steps.

    Each write or removal of an object is a step.
    """

    def __init__(self, store: ObjectStore, steps: int) -> None:
        self._store = store
        self.left = steps

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def put(self, key: str, data: bytes) -> None:
        self._step()
        self._store.put(key, data)

    def create(self, key: str, data: bytes) -> bool:
        self._step()
        return self._store.create(key, data)

    def compose(self, key: str, parts: Sequence[str]) -> None:
        self._step()
        self._store.compose(key, parts)

    def delete(self, keys: Iterable[str]) -> None:
        for key in list(keys):
            self._step()
            self._store.delete([key])

    def _step(self) -> None:
        if not self.left:
            raise ConnectionError
        self.left -= 1
