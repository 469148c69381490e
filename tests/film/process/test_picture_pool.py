"""Pictures are read and written in processes of their own, and whatever comes of it has an end."""

import asyncio
import gc
import io
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from PIL import Image

from film.errors import (
    ImageCrashedError,
    ImageError,
    ImageLimitError,
    PictureProcessesBusyError,
    PictureProcessLostError,
)
from film.image import decode_image, encode_image
from film.limits import PictureLimits
from film.process import picture_process
from film.process.picture_pool import PicturePool
from film.process.picture_protocol import PICTURE_MAIN
from film.process.spawner import Spawner, SpawnError
from film.quality import frame_detail
from film.read.scaling import to_model_frame
from tests.film.process.asking import descriptors_open
from tests.support import picture_bombs as bombs

BAD_MAIN = "tests.film.process.bad_pictures"
LIMITS = PictureLimits()


def drawing(height: int = 270, width: int = 480) -> NDArray[np.uint8]:
    y, x = np.mgrid[:height, :width]
    return np.stack([x % 256, y % 256, (x + y) % 256], axis=-1).astype(np.uint8)


def letterboxed() -> NDArray[np.uint8]:
    picture = np.random.default_rng(0).integers(60, 256, (360, 640, 3), dtype=np.uint8)
    picture[:60] = picture[-60:] = 0
    return picture


JPEG = encode_image(drawing(), "jpeg")
EXPECTED = to_model_frame(decode_image(JPEG))


@pytest.fixture
async def spawner():
    spawner = Spawner([PICTURE_MAIN, BAD_MAIN], isolated=False)
    await spawner.start()
    yield spawner
    await spawner.close()


@asynccontextmanager
async def opened(
    spawner: Spawner, limits: PictureLimits = LIMITS, *, processes: int = 2, max_waiting: int = 256
) -> AsyncIterator[PicturePool]:
    pool = PicturePool(spawner, processes=processes, limits=limits, max_waiting=max_waiting)
    await pool.start()
    try:
        yield pool
    finally:
        await pool.close()


@pytest.fixture
async def pool(spawner: Spawner):
    async with opened(spawner) as pool:
        yield pool


def pids() -> list[int]:
    """The picture processes that there are: the fork server's children."""
    (server,) = (
        process
        for process in psutil.Process().children()
        if "film.process.forkserver" in process.cmdline()
    )
    return [process.pid for process in server.children()]


def at_work() -> int:
    """Wait for the one process that computes, and return its number."""
    while True:
        for pid in pids():
            try:
                if psutil.Process(pid).status() == psutil.STATUS_RUNNING:
                    return pid
            except psutil.NoSuchProcess:
                continue


async def held_up(pool: PicturePool) -> tuple["asyncio.Task[object]", int]:
    """Have one process at work for long."""
    reading = asyncio.ensure_future(pool.read(bombs.endless_jpeg(), None))
    return reading, await asyncio.to_thread(at_work)


# What is done.


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
async def test_files_are_read_and_written_as_here(pool: PicturePool, kind: Any):
    file = encode_image(drawing(), kind)
    frame = await pool.read(file, None)
    assert np.array_equal(frame, to_model_frame(decode_image(file)))
    frames = np.stack([np.roll(frame, n, axis=1) for n in range(19)])
    assert await pool.write(frames, kind) == [encode_image(each, kind) for each in frames]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1081, 1923), (16384, 200)])
async def test_raw_pictures_of_any_size_are_scaled_as_here(
    pool: PicturePool, height: int, width: int
):
    picture = drawing(height, width)
    frame = await pool.read(picture.tobytes(), (width, height))
    assert np.array_equal(frame, to_model_frame(picture))


@pytest.mark.parametrize(("height", "width"), [(16384, 3), (1, 16384)])
async def test_a_picture_that_cannot_be_scaled_says_so(pool: PicturePool, height: int, width: int):
    with pytest.raises(ImageError, match=f"{width} x {height} cannot be scaled"):
        await pool.read(bytes(height * width * 3), (width, height))


async def test_a_picture_with_bars_is_looked_for_with_and_without(pool: PicturePool):
    surveyed = await pool.survey(encode_image(letterboxed(), "png"), None)
    inner = to_model_frame(letterboxed()[60:-60])
    assert np.array_equal(surveyed.frames, [to_model_frame(letterboxed()), inner])
    assert surveyed.detail == pytest.approx(frame_detail(inner[np.newaxis])[0])
    plain = await pool.survey(drawing().tobytes(), (480, 270))
    assert np.array_equal(plain.frames, [to_model_frame(drawing())])


@pytest.mark.parametrize("file", [b"", b"no picture", JPEG[:300], JPEG[: len(JPEG) // 2]])
async def test_a_damaged_picture_costs_no_process(pool: PicturePool, file: bytes):
    before = set(pids())
    for _ in range(4):
        with pytest.raises(ImageError) as refused:
            await pool.read(file, None)
        assert type(refused.value) is ImageError
        assert np.array_equal(await pool.read(JPEG, None), EXPECTED)
    assert set(pids()) == before


async def test_several_are_read_at_once_and_more_wait(pool: PicturePool):
    frames = await asyncio.gather(*(pool.read(JPEG, None) for _ in range(50)))
    assert all(np.array_equal(frame, EXPECTED) for frame in frames)
    assert pool.waiting == 0


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
async def test_of_an_animated_picture_the_first_one_counts(pool: PicturePool, kind: Any):
    frame = await pool.read(bombs.animated(kind, frames=5, side=100), None)
    assert np.array_equal(np.unique(frame.reshape(-1, 3), axis=0), [[255, 0, 0]])


def pictures_of_all_kinds() -> list[bytes]:
    def file(picture: Image.Image, kind: str, **options: object) -> bytes:
        buffer = io.BytesIO()
        picture.save(buffer, kind, **options)
        return buffer.getvalue()

    rgb = Image.fromarray(drawing(40, 60))
    exif = Image.Exif()
    exif[0x0112] = 5
    made = [
        file(rgb.convert(mode), "PNG")
        for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
        if mode != "I;16"
    ]
    made.append(file(Image.fromarray(np.zeros((9, 9), np.uint16)), "PNG"))
    made += [file(rgb.convert(mode), "JPEG") for mode in ("L", "RGB", "CMYK")]
    made += [file(rgb, kind, exif=exif, icc_profile=b"x" * 200) for kind in ("PNG", "JPEG", "WEBP")]
    made += [file(rgb, "JPEG", progressive=True), file(rgb, "JPEG", comment="é")]
    made += [bombs.text_png(kind, 1000) for kind in (b"zTXt", b"iTXt", b"iCCP", b"tEXt")]
    made += [bombs.interlaced_png(20), bombs.exif_png(20, 20), bombs.animated("WEBP", 3, 20)]
    made.append(file(rgb, "GIF"))
    return made


def test_no_picture_has_a_process_load_what_it_has_not_loaded():
    """A confined process could not, and would call the picture damaged."""
    script = (
        "import sys\n"
        "from film.process import picture_main as main\n"
        "from tests.film.process.test_picture_pool import pictures_of_all_kinds\n"
        "pictures = pictures_of_all_kinds()\n"
        "for name in list(sys.modules):\n"
        "    if name.partition('.')[0] in ('PIL', 'encodings'): del sys.modules[name]\n"
        "for name in [n for n in sys.modules if n.startswith('film.')]: del sys.modules[name]\n"
        "from film.process import picture_main as main\n"
        "from film.errors import ImageError\n"
        "before = set(sys.modules)\n"
        "for picture in pictures:\n"
        "    try: main._surveyed(main.decode_image(picture))\n"
        "    except ImageError: pass\n"
        "print(sorted(set(sys.modules) - before))\n"
    )
    root = Path(__file__).parents[3]
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False
    )
    assert (ran.stdout, ran.returncode) == ("[]\n", 0), ran.stderr


# Limits, and bombs.


LIMITED: dict[str, tuple[Callable[[], bytes], PictureLimits, str]] = {
    "endless JPEG": (bombs.endless_jpeg, replace(LIMITS, seconds=1.0), "seconds"),
    "PNG of 50,000 x 50,000": (bombs.large_png, LIMITS, "pixels"),
    "WebP of 16,000 x 16,000": (bombs.huge_webp, LIMITS, "pixels"),
    "transparent PNG": (bombs.rgba_png, replace(LIMITS, memory_bytes=400 << 20), "memory_bytes"),
    "transparent WebP": (bombs.webp, replace(LIMITS, memory_bytes=800 << 20), "memory_bytes"),
}


@pytest.mark.parametrize("name", LIMITED)
async def test_a_bomb_ends_at_its_limit_and_others_go_on(spawner: Spawner, name: str):
    make, limits, limit = LIMITED[name]
    bomb = make()
    async with opened(spawner, limits) as pool:
        reading = asyncio.ensure_future(pool.read(bomb, None))
        others = 0
        while not reading.done() or others < 3:
            assert np.array_equal(await pool.read(JPEG, None), EXPECTED)
            others += 1
        with pytest.raises(ImageLimitError) as refused:
            await reading
        assert refused.value.limit == limit
        assert str(getattr(limits, limit)).rstrip(".0") in str(refused.value)


async def test_without_its_limit_the_endless_picture_goes_on(spawner: Spawner):
    async with opened(spawner, replace(LIMITS, seconds=3600)) as pool:
        reading, pid = await held_up(pool)
        process = psutil.Process(pid)
        while process.cpu_times().user < 1.5 and not reading.done():
            assert np.array_equal(await pool.read(JPEG, None), EXPECTED)
        assert not reading.done()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await asyncio.to_thread(process.wait, 10)


async def test_without_its_limit_a_picture_of_many_pixels_is_decoded(spawner: Spawner):
    small = replace(LIMITS, pixels=480 * 270 - 1)
    async with opened(spawner, small) as pool:
        with pytest.raises(ImageLimitError):
            await pool.read(JPEG, None)
    async with opened(spawner, replace(small, pixels=480 * 270)) as pool:
        assert np.array_equal(await pool.read(JPEG, None), EXPECTED)


@pytest.mark.parametrize("make", [bombs.rgba_png, bombs.webp, bombs.interlaced_png])
async def test_the_largest_pictures_that_are_allowed_fit(spawner: Spawner, make):
    """So the controls of those that meet the limit on memory."""
    async with opened(spawner) as pool:
        assert (await pool.read(make(), None)).shape == (144, 256, 3)


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
async def test_what_unfolds_in_metadata_is_not_unfolded(spawner: Spawner, kind: bytes):
    bomb = bombs.text_png(kind)
    async with opened(spawner, replace(LIMITS, memory_bytes=300 << 20)) as pool:
        with pytest.raises(ImageError) as refused:
            await pool.read(bomb, None)
        assert type(refused.value) is ImageError


async def test_exif_that_names_the_same_bytes_again_and_again_takes_no_memory(spawner: Spawner):
    async with opened(spawner, replace(LIMITS, memory_bytes=300 << 20)) as pool:
        assert (await pool.read(bombs.exif_png(), None)).max() == 0


async def test_a_stopped_process_is_replaced_and_its_picture_read(
    spawner: Spawner, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(picture_process, "_STALLED_SECONDS", 0.5)
    async with opened(spawner, processes=1) as pool:
        (pid,) = pids()
        os.kill(pid, signal.SIGSTOP)
        assert np.array_equal(await pool.read(JPEG, None), EXPECTED)
        assert not psutil.pid_exists(pid)


# Callers who leave, and too many of them.


async def test_who_leaves_has_the_process_killed(spawner: Spawner):
    async with opened(spawner, replace(LIMITS, seconds=3600), processes=1) as pool:
        reading, pid = await held_up(pool)
        waiting = asyncio.ensure_future(pool.read(JPEG, None))
        reading.cancel()
        assert np.array_equal(await waiting, EXPECTED)
        assert not psutil.pid_exists(pid)


async def test_who_leaves_the_queue_takes_nothing_along(spawner: Spawner):
    async with opened(spawner, processes=1) as pool:
        reads = [asyncio.ensure_future(pool.read(JPEG, None)) for _ in range(9)]
        await asyncio.sleep(0)
        (pid,) = pids()
        for read in reads[1::2]:
            read.cancel()
        results = await asyncio.gather(*reads, return_exceptions=True)
        assert [isinstance(each, asyncio.CancelledError) for each in results] == [
            n % 2 == 1 for n in range(9)
        ]
        assert pids() == [pid]


async def test_who_leaves_while_a_process_starts_takes_no_place_along(spawner: Spawner):
    async with opened(spawner, replace(LIMITS, seconds=3600), processes=1) as pool:
        reading, _ = await held_up(pool)
        reading.cancel()
        await asyncio.wait({reading})
        waiting = asyncio.ensure_future(pool.read(JPEG, None))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        async with asyncio.timeout(60):
            assert np.array_equal(await pool.read(JPEG, None), EXPECTED)


async def test_too_many_are_refused(spawner: Spawner):
    async with opened(spawner, processes=1, max_waiting=2) as pool:
        reads = [asyncio.ensure_future(pool.read(JPEG, None)) for _ in range(5)]
        results = await asyncio.gather(*reads, return_exceptions=True)
        refused = [isinstance(each, PictureProcessesBusyError) for each in results]
        assert refused == [False, False, False, True, True]


# Processes that die.


async def test_kills_at_any_moment_harm_nobody(pool: PicturePool):
    """Each picture is read, by a second process if need be, or its error says why it was not."""
    await pool.read(JPEG, None)
    descriptors, tasks = descriptors_open(), len(asyncio.all_tasks())
    chance = random.Random(0)
    lost = read = 0

    async def reader() -> None:
        nonlocal lost, read
        try:
            assert np.array_equal(await pool.read(JPEG, None), EXPECTED)
            read += 1
        except PictureProcessLostError:
            lost += 1

    for _ in range(20):
        readers = [asyncio.ensure_future(reader()) for _ in range(6)]
        for _ in range(chance.randrange(40)):
            await asyncio.sleep(0)
        for pid in chance.sample(pids(), 1):
            os.kill(pid, signal.SIGKILL)
        await asyncio.gather(*readers)
    assert lost + read == 120
    assert lost < 20
    await asyncio.gather(*(pool.read(JPEG, None) for _ in range(2)))
    assert len(pids()) == 2
    assert (descriptors_open(), len(asyncio.all_tasks())) == (descriptors, tasks)


async def test_processes_that_died_idle_are_replaced_first(pool: PicturePool):
    for pid in pids():
        os.kill(pid, signal.SIGKILL)
    await asyncio.wait({process.child.ended for process in pool._alive})
    assert np.array_equal(await pool.read(JPEG, None), EXPECTED)


async def test_a_fork_server_that_dies_takes_no_picture_along(pool: PicturePool):
    reads = [asyncio.ensure_future(pool.read(JPEG, None)) for _ in range(20)]
    await asyncio.sleep(0)
    server = psutil.Process(pids()[0]).ppid()
    os.kill(server, signal.SIGKILL)
    assert all(np.array_equal(frame, EXPECTED) for frame in await asyncio.gather(*reads))


async def test_without_a_fork_server_pictures_are_refused_and_later_read(
    pool: PicturePool, spawner: Spawner, monkeypatch: pytest.MonkeyPatch
):
    async def refuse(*_: object) -> None:
        raise SpawnError("none")

    with monkeypatch.context() as without:
        without.setattr(spawner, "spawn", refuse)
        for pid in pids():
            os.kill(pid, signal.SIGKILL)
        for _ in range(3):
            with pytest.raises(PictureProcessLostError):
                await pool.read(JPEG, None)
    results = await asyncio.gather(
        *(pool.read(JPEG, None) for _ in range(9)), return_exceptions=True
    )
    assert sum(isinstance(each, PictureProcessLostError) for each in results) <= 2
    assert np.array_equal(await pool.read(JPEG, None), EXPECTED)


BAD = {
    "crash": ImageCrashedError,
    "exit": ImageCrashedError,
    "no message": ImageCrashedError,
    "another kind": ImageCrashedError,
    "no frame": ImageCrashedError,
    "half a frame": ImageCrashedError,
    "three frames": ImageCrashedError,
    "no detail": ImageCrashedError,
    "detail is no number": ImageCrashedError,
    "detail is a list": ImageCrashedError,
    "unknown fault": ImageCrashedError,
    "memory": ImageLimitError,
}


@pytest.mark.parametrize("what", BAD)
async def test_a_process_that_does_what_none_may_is_replaced(
    spawner: Spawner, monkeypatch: pytest.MonkeyPatch, what: str
):
    monkeypatch.setattr(picture_process, "PICTURE_MAIN", BAD_MAIN)
    limits = replace(LIMITS, memory_bytes=200 << 20)
    async with opened(spawner, limits, processes=1) as pool:
        before = pids()
        with pytest.raises(BAD[what]):
            await pool.survey(what.encode(), None)
        assert (await pool.survey(b"fine", None)).detail == 1
        assert pids() != before


async def test_what_a_process_says_is_cut(spawner: Spawner, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(picture_process, "PICTURE_MAIN", BAD_MAIN)
    async with opened(spawner, processes=1) as pool:
        with pytest.raises(ImageError) as refused:
            await pool.read(b"long message", None)
        assert len(str(refused.value)) == 200


async def test_a_process_is_replaced_after_many_pictures(
    spawner: Spawner, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("film.process.picture_pool.SERVED_AT_MOST", 5)
    async with opened(spawner, processes=1) as pool:
        seen = set()
        for _ in range(20):
            seen |= set(pids())
            assert np.array_equal(await pool.read(JPEG, None), EXPECTED)
        assert len(seen) == 4


async def test_nothing_is_left_of_a_closed_pool(spawner: Spawner):
    pool = PicturePool(spawner, processes=3)
    gc.collect()  # What earlier tests left is not to be closed in between.
    before = descriptors_open()
    await pool.start()
    reading = asyncio.ensure_future(pool.read(bombs.endless_jpeg(), None))
    await asyncio.to_thread(at_work)
    await pool.close()
    with pytest.raises(PictureProcessLostError):
        await reading
    assert pids() == []
    assert descriptors_open() == before
