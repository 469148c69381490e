"""Objects as files in a folder, written atomically and durably."""

import errno
import os
import stat
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import structlog

from service.errors import ServiceError
from service.storage.errors import full, refused, unavailable
from service.storage.keys import check_folder, check_key, check_prefix, is_name
from service.storage.objects import (
    CHUNK_BYTES,
    ObjectInfo,
    ObjectNotFoundError,
    PresigningUnsupportedError,
    chunks,
)

log = structlog.get_logger(__name__)

_WRITING = ".writing"
"""The folder of unfinished files. Its presence also tells a store from an empty mount point."""

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EOPNOTSUPP)
_NO_COPY_RANGE = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)

_PLACE_ATTEMPTS = 1000
"""Each attempt fails only if another call removes the emptied folder at the same moment."""


class FolderStore:
    """An `ObjectStore` in a folder, which processes of one machine may share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._writing = self._folder / _WRITING

    def prepare(self) -> None:
        """Create the folder if missing; raises UnavailableError."""
        with _translated_errors():
            self._writing.mkdir(parents=True, exist_ok=True)
            self.check()
            with self._new_file() as (temporary, _):
                # `create` needs hard links: fail early on a file system without them.
                link = temporary.with_suffix(".link")
                os.link(temporary, link)
                link.unlink()

    def check(self) -> None:
        """Raise UnavailableError unless the folder exists and is writable."""
        with _translated_errors():
            self._check_exists()
            if not os.access(self._writing, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self._writing))

    def put(self, key: str, data: bytes | BinaryIO, size: int | None = None) -> None:
        """Write an object; see `ObjectStore`. Raises EOFError if a file has too few bytes."""
        path = self._path(key)
        with self._new_file() as (temporary, descriptor):
            for chunk in chunks(data, size):
                with _translated_errors():
                    _write(descriptor, chunk)
            with _translated_errors():
                os.fsync(descriptor)
                self._move_into_place(temporary, path, os.replace)

    def create(self, key: str, data: bytes) -> bool:
        """Write a small object unless it exists; see `ObjectStore`."""
        path = self._path(key)
        with _translated_errors(), self._new_file() as (temporary, descriptor):
            _write(descriptor, data)
            os.fsync(descriptor)
            try:
                self._move_into_place(temporary, path, os.link)
            except FileExistsError:
                return False
            return True

    def get(self, key: str) -> bytes:
        """Return a small object's bytes; raises ObjectNotFoundError."""
        return b"".join(self.read(key))

    def read(
        self, key: str, start: int = 0, size: int | None = None
    ) -> Generator[bytes, None, None]:
        """Yield an object's bytes from `start` on; see `ObjectStore`."""
        path = self._path(key)
        with _translated_errors():
            try:
                file = open(path, "rb", buffering=0)  # noqa: SIM115, PTH123
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                raise self._not_found(key) from None
        with file:
            file.seek(start)
            left = size
            while left is None or left > 0:
                with _translated_errors():
                    chunk = file.read(CHUNK_BYTES if left is None else min(left, CHUNK_BYTES))
                if not chunk:
                    return
                if left is not None:
                    left -= len(chunk)
                yield chunk

    def info(self, key: str) -> ObjectInfo:
        """Return an object's metadata; raises ObjectNotFoundError."""
        path = self._path(key)
        with _translated_errors():
            found = _info(key, path)
            if found is None:
                raise self._not_found(key)
            return found

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        """Yield all objects below `prefix`, by key; see `ObjectStore`."""
        check_prefix(prefix)
        with _translated_errors():
            self._check_exists()
            for key in self._keys(prefix, after, prefix[: prefix.rfind("/") + 1]):
                found = _info(key, self._folder / key)
                if found is not None:
                    yield found

    def folders(self, prefix: str, *, after: str = "") -> Iterator[str]:
        """Yield the names of the folders directly below `prefix`; see `ObjectStore`."""
        check_folder(prefix)
        with _translated_errors():
            self._check_exists()
            for name in self._names(prefix):
                if name.endswith("/") and (not after or name > f"{after}/"):
                    folder = prefix + name
                    # A folder left empty by a crash does not count.
                    if next(self._keys(folder, "", folder), None) is not None:
                        yield name[:-1]

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects and the folders that become empty; see `ObjectStore`."""
        with _translated_errors():
            self._check_exists()
        folder: Path | None = None
        for key in keys:
            path = self._path(key)
            with _translated_errors():
                if folder is not None and folder != path.parent:
                    self._remove_empty(folder)
                folder = path.parent
                with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
                    path.unlink()
        if folder is not None:
            with _translated_errors():
                self._remove_empty(folder)

    def compose(self, key: str, parts: Sequence[str]) -> None:
        """Write the concatenation of other objects; see `ObjectStore`."""
        path = self._path(key)
        paths = {part: self._path(part) for part in parts}
        with _translated_errors(), self._new_file() as (temporary, descriptor):
            for part in parts:
                try:
                    file = open(paths[part], "rb", buffering=0)  # noqa: SIM115, PTH123
                except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                    raise self._not_found(part) from None
                with file:
                    _append(file.fileno(), descriptor)
            os.fsync(descriptor)
            self._move_into_place(temporary, path, os.replace)

    def presigned_get(self, key: str, time_to_live: timedelta, file_name: str) -> str:
        """Raise PresigningUnsupportedError."""
        raise PresigningUnsupportedError

    def presigned_put(self, key: str, time_to_live: timedelta) -> str:
        """Raise PresigningUnsupportedError."""
        raise PresigningUnsupportedError

    def abandoned(self, older_than: timedelta) -> Iterator[str]:
        """Yield the names of unfinished files that were not written to since."""
        limit = (datetime.now(UTC) - older_than).timestamp()
        with _translated_errors():
            for path in sorted(self._writing.iterdir()):
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime < limit:
                        yield path.name

    def delete_abandoned(self, keys: Iterable[str]) -> None:
        """Delete unfinished files."""
        for name in keys:
            if not is_name(name):
                raise ValueError(f"not an abandoned write: {name!r}")
            with _translated_errors():
                (self._writing / name).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        check_key(key)
        return self._folder / key

    def _check_exists(self) -> None:
        self._writing.stat()

    def _not_found(self, key: str) -> ObjectNotFoundError:
        """Return the error for a missing object; raises OSError if the store's folder is gone."""
        self._check_exists()
        return ObjectNotFoundError(key)

    @contextmanager
    def _new_file(self) -> Iterator[tuple[Path, int]]:
        """Yield a new temporary file and its descriptor; it is deleted after the block."""
        temporary = self._writing / uuid.uuid4().hex
        with _translated_errors():
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            yield temporary, descriptor
        finally:
            os.close(descriptor)
            temporary.unlink(missing_ok=True)

    def _move_into_place(
        self, temporary: Path, path: Path, place: Callable[[Path, Path], None]
    ) -> None:
        """Move a written file to its place, durably."""
        for _ in range(_PLACE_ATTEMPTS):
            try:
                place(temporary, path)
            except FileNotFoundError:
                temporary.stat()
                # The folder does not exist yet, or was removed when it became empty.
                with suppress(FileNotFoundError, FileExistsError):
                    path.parent.mkdir(parents=True, exist_ok=True)
            except (NotADirectoryError, IsADirectoryError):
                key = path.relative_to(self._folder)
                raise ValueError(f"one key is the folder of another: {str(key)!r}") from None
            else:
                self._sync_from(path.parent)
                return
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(path))

    def _sync_from(self, folder: Path) -> None:
        """Fsync a folder and its parents up to the root."""
        while True:
            with suppress(FileNotFoundError):
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
            if folder == self._folder:
                return
            folder = folder.parent

    def _remove_empty(self, folder: Path) -> None:
        """Remove a folder and its parents as far as they are empty."""
        with suppress(OSError):
            emptied = folder
            while emptied != self._folder:
                emptied.rmdir()
                emptied = emptied.parent
        self._sync_from(folder)

    def _keys(self, prefix: str, after: str, folder: str) -> Iterator[str]:
        """Yield the keys in `folder` that begin with `prefix`, those after `after`, in order."""
        for name in self._names(folder):
            key = folder + name
            if name.endswith("/"):
                wanted = key.startswith(prefix) or prefix.startswith(key)
                if wanted and (key > after or after.startswith(key)):
                    yield from self._keys(prefix, after, key)
            elif key > after and key.startswith(prefix):
                yield key

    def _names(self, folder: str) -> Sequence[str]:
        """Return the names in a folder, folders with a trailing "/", in the order of keys."""
        try:
            with os.scandir(self._folder / folder) as entries:
                return sorted(
                    entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name
                    for entry in entries
                    if is_name(entry.name)
                )
        except (FileNotFoundError, NotADirectoryError):
            return ()


def _info(key: str, path: Path) -> ObjectInfo | None:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return ObjectInfo(key, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _append(source: int, target: int) -> None:
    """Append a whole file to another, in the kernel if possible."""
    try:
        while os.copy_file_range(source, target, 2**30):
            pass
    except OSError as error:
        if error.errno not in _NO_COPY_RANGE:
            raise
    while chunk := os.read(source, CHUNK_BYTES):
        _write(target, chunk)


@contextmanager
def _translated_errors() -> Iterator[None]:
    """Translate errors of the file system into errors for callers; details go to the log."""
    try:
        yield
    except OSError as error:
        raise _service_error(error) from None


def _service_error(error: OSError) -> ServiceError:
    log.warning("the library's folder failed", error=str(error))
    if error.errno in _NO_SPACE:
        return full()
    if error.errno in _NOT_ALLOWED:
        return refused()
    return unavailable()
