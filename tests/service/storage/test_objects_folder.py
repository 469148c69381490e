"""What a folder promises beyond the interface: processes, crashes, full and missing disks."""

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from service.errors import OverloadedError, ServiceError, UnavailableError
from service.storage.folder import FolderStore
from service.storage.objects import PresigningUnsupportedError
from tests.support.service_process import ROOT

MIB = 2**20

WRITER = """
import io, sys
from pathlib import Path
from service.storage.folder import FolderStore

class HalfAFilm(io.RawIOBase):
    def read(self, size=-1):
        if self.tell_once:
            self.tell_once = False
            return bytes(size)
        print("half", flush=True)
        sys.stdin.read()

film = HalfAFilm()
film.tell_once = True
FolderStore(Path(sys.argv[1])).put("films/a/source", film, 100 * 2**20)
"""

LISTER = """
import sys, tracemalloc
from pathlib import Path
from service.storage.folder import FolderStore

store = FolderStore(Path(sys.argv[1]))
tracemalloc.start()
objects = sum(1 for _ in store.list("films/"))
folders = sum(1 for _ in store.folders("films/", after="00099"))
print(objects, folders, tracemalloc.get_traced_memory()[1])
"""


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    store = FolderStore(tmp_path / "library")
    store.prepare()
    return store


def files(folder: Path) -> list[str]:
    """All files and folders in a store's folder, hidden ones too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_writer_killed_in_the_middle_leaves_nothing_to_see(
    tmp_path: Path, store: FolderStore
) -> None:
    store.put("films/a/film.json", b"{}")
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "library")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"half\n"
        assert [found.key for found in store.list("")] == ["films/a/film.json"]
        writer.send_signal(signal.SIGKILL)
    assert [found.key for found in store.list("")] == ["films/a/film.json"]
    (left,) = store.abandoned(timedelta(seconds=-60))
    assert list(store.abandoned(timedelta(hours=1))) == []
    store.delete_abandoned([left, left])
    assert files(tmp_path / "library") == [".writing", "films", "films/a", "films/a/film.json"]


def create_in_races(folder: Path, barrier: Barrier, races: int, number: int) -> list[bool]:
    store = FolderStore(folder)
    won = []
    for race in range(races):
        barrier.wait(30)
        won.append(store.create(f"race/{race}", str(number).encode()))
    return won


def test_of_racing_processes_one_wins(tmp_path: Path, store: FolderStore) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(3) as pool:
        barrier = manager.Barrier(3)
        arguments = [(tmp_path / "library", barrier, 50, number) for number in range(3)]
        outcomes = pool.starmap(create_in_races, arguments, chunksize=1)
    for race, won in enumerate(zip(*outcomes, strict=True)):
        assert sum(won) == 1
        assert store.get(f"race/{race}") == str(won.index(True)).encode()


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """Have the disk refuse to let a file grow, as a quota does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def check_full(store: FolderStore, folder: Path) -> None:
    before = files(folder)
    for ask in (
        lambda: store.put("films/b/source", bytes(3 * MIB)),
        lambda: store.create("films/b/film.json", bytes(3 * MIB)),
        lambda: store.compose("films/b/source", ["films/a/source"] * 3),
    ):
        with pytest.raises(OverloadedError) as error:
            ask()
        assert error.value.reason == "STORE_FULL"
        assert error.value.retry_after
        assert str(folder) not in error.value.message
    assert files(folder) == before
    assert store.get("films/a/source") == bytes(MIB)


def test_a_quota_is_a_full_store_and_nothing_half_is_left(
    tmp_path: Path, store: FolderStore
) -> None:
    store.put("films/a/source", bytes(MIB))
    with no_file_larger_than(2 * MIB):
        check_full(store, tmp_path / "library")


def test_a_full_disk_is_a_full_store_and_nothing_half_is_left(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.geteuid()
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(disk)], capture_output=True
        ).returncode
    ):
        pytest.skip("only who may mount can have a small disk")
    try:
        store = FolderStore(disk / "library")
        store.prepare()
        store.put("films/a/source", bytes(MIB))
        check_full(store, disk / "library")
        store.delete(["films/a/source"])
        store.put("films/b/source", bytes(2 * MIB))
        assert store.info("films/b/source").size == 2 * MIB
        # A disk that can be read only.
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for ask in (store.check, lambda: store.put("c", b"")):
            with pytest.raises(UnavailableError) as error:
                ask()
            assert error.value.reason == "STORE_REFUSED"
        assert store.info("films/b/source").size == 2 * MIB
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_folder_that_is_gone_is_no_empty_library(tmp_path: Path, store: FolderStore) -> None:
    store.put("films/a/film.json", b"{}")
    (tmp_path / "library").rename(tmp_path / "elsewhere")
    (tmp_path / "library").mkdir()  # what is left of a disk that is not mounted
    for ask in (
        store.check,
        lambda: store.get("films/a/film.json"),
        lambda: store.info("films/a/film.json"),
        lambda: list(store.list("films/")),
        lambda: list(store.folders("films/")),
        lambda: store.delete(["films/a/film.json"]),
        lambda: store.put("films/b/film.json", b"{}"),
        lambda: store.create("films/b/film.json", b"{}"),
    ):
        with pytest.raises(UnavailableError) as error:
            ask()
        assert error.value.reason == "STORE_UNAVAILABLE"
        assert error.value.retry_after
        assert str(tmp_path) not in error.value.message
    (tmp_path / "library").rmdir()
    (tmp_path / "elsewhere").rename(tmp_path / "library")
    assert store.get("films/a/film.json") == b"{}"


def test_a_file_in_the_folders_place_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "library").write_text("not a folder")
    store = FolderStore(tmp_path / "library")
    for ask in (store.prepare, store.check):
        with pytest.raises(ServiceError) as error:
            ask()
        assert error.value.reason == "STORE_UNAVAILABLE"


def test_one_key_cannot_be_the_folder_of_another(store: FolderStore) -> None:
    store.put("films/a", b"a")
    with pytest.raises(ValueError, match="folder of another"):
        store.put("films/a/b", b"b")
    with pytest.raises(ValueError, match="folder of another"):
        store.put("films", b"films")
    assert [found.key for found in store.list("")] == ["films/a"]


def test_what_else_lies_in_the_folder_is_no_object(tmp_path: Path, store: FolderStore) -> None:
    store.put("films/a/film.json", b"{}")
    (tmp_path / "library/films/.DS_Store").write_text("")
    (tmp_path / "library/lost+found").mkdir()
    (tmp_path / "library/films/empty/empty").mkdir(parents=True)
    assert [found.key for found in store.list("")] == ["films/a/film.json"]
    assert list(store.folders("films/")) == ["a"]


def test_ten_thousand_films_are_listed_in_little_memory(tmp_path: Path, store: FolderStore) -> None:
    for number in range(10_000):
        film = tmp_path / f"library/films/{number:05}"
        film.mkdir(parents=True)
        (film / "film.json").touch()
        (film / "source").touch()
    # In a process of its own, where nothing else takes memory meanwhile.
    done = subprocess.run(
        [sys.executable, "-c", LISTER, str(tmp_path / "library")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    objects, folders, peak = map(int, done.stdout.split())
    assert (objects, folders) == (20_000, 9_900)
    # The names in one folder take 1.5 MiB; all objects at once would take 5.
    assert peak < 3 * MIB


class Disk:
    """Writes down what is forced onto the disk, and when a file gets its name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        self._root = root
        self.events: list[tuple[str, str]] = []
        sync, replace, link = os.fsync, os.replace, os.link

        def synced(descriptor: int) -> None:
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            if path.is_dir():
                self.events.append(("folder synced", self._name(path)))
            else:
                self.events.append(("file synced", path.read_text()))
            sync(descriptor)

        def named(real: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
            def name(source: Path, target: Path) -> None:
                real(source, target)
                if target.is_relative_to(root / "films"):
                    self.events.append(("named", self._name(target)))

            return name

        monkeypatch.setattr(os, "fsync", synced)
        monkeypatch.setattr(os, "replace", named(replace))
        monkeypatch.setattr(os, "link", named(link))

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self._root))


@pytest.mark.parametrize("how", ["put", "create", "compose"])
def test_a_write_that_returned_outlives_a_power_cut(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    for name, data in (("one", b"fi"), ("two", b"lm")):
        store.put(f"parts/{name}", data)
    disk = Disk(monkeypatch, tmp_path / "library")
    if how == "put":
        store.put("films/a/source", b"film")
    elif how == "create":
        assert store.create("films/a/source", b"film")
    else:
        store.compose("films/a/source", ["parts/one", "parts/two"])
    # Its bytes first, whole, then its name, and with it the folders that were made for it.
    assert disk.events == [
        ("file synced", "film"),
        ("named", "films/a/source"),
        ("folder synced", "films/a"),
        ("folder synced", "films"),
        ("folder synced", "."),
    ]


def test_a_deletion_that_returned_outlives_a_power_cut(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("films/a/source", b"film")
    store.put("films/b/source", b"film")
    disk = Disk(monkeypatch, tmp_path / "library")
    store.delete(["films/a/source"])
    # Folder "a" is gone: what is to last is that "films" no longer has it.
    assert disk.events == [("folder synced", "films"), ("folder synced", ".")]


def test_a_folder_has_no_urls(store: FolderStore) -> None:
    with pytest.raises(PresigningUnsupportedError):
        store.presigned_get("films/a/source", timedelta(hours=1), "a.mp4")
    with pytest.raises(PresigningUnsupportedError):
        store.presigned_put("films/a/source", timedelta(hours=1))
