"""Films to the library, over a connection that is really cut."""

import asyncio
import hashlib
import io
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import grpc
import numpy as np
import pytest
import refilm
import refilm.aio
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2

from tests.client.library import CREATED, PART_BYTES, Cable, Library

FILM = np.random.default_rng(5).bytes(5 * PART_BYTES + 12_345)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "film.mp4"
    file.write_bytes(FILM)
    return file


def in_pieces() -> Iterator[bytes]:
    for start in range(0, len(FILM), 700_001):
        yield FILM[start : start + 700_001]


def test_a_film_is_uploaded_from_wherever_it_comes(library: Library, path: Path) -> None:
    seen: list[refilm.TransferProgress] = []
    with refilm.Client(library.address) as client:
        film = client.upload_film(path, title="A Film", progress=seen.append)
        for name, source in (
            ("bytes", FILM),
            ("memory", io.BytesIO(FILM)),
            ("file", path.open("rb")),
            ("pieces", in_pieces()),
        ):
            assert client.upload_film(source, film_id=name).digest == film.digest

    assert film == refilm.Film(
        name="films/a-film",
        uid="uid-a-film",
        title="A Film",
        size=len(FILM),
        digest=f"sha256:{hashlib.sha256(FILM).hexdigest()}",
        created=datetime.fromtimestamp(CREATED.seconds, UTC),
        facts=film.facts,
    )
    assert (film.id, film.facts.video_codec, film.facts.time_base) == (
        "a-film",
        "h264",
        Fraction(1, 24),
    )
    assert library.bytes.keys() == {f"films/{n}" for n in ("a-film", *library_names())}
    assert set(library.bytes.values()) == {FILM}
    sizes = [opening.settings.film_size_bytes for opening in library.openings]
    assert sizes == [len(FILM)] * 4 + [0]
    ids = [opening.settings.upload_id for opening in library.openings]
    assert all(ids[:4]) and len(set(ids)) == 5 and not ids[4]
    assert (seen[-1].bytes_done, seen[-1].bytes_total, seen[-1].fraction) == (
        len(FILM),
        len(FILM),
        1.0,
    )


def library_names() -> tuple[str, ...]:
    return ("bytes", "memory", "file", "pieces")


async def test_the_asynchronous_client_does_the_same(library: Library, path: Path) -> None:
    async def arriving() -> AsyncIterator[bytes]:
        for piece in in_pieces():
            await asyncio.sleep(0)
            yield piece

    async with refilm.aio.Client(library.address) as client:
        await client.upload_film(path, film_id="path")
        await client.upload_film(arriving(), film_id="arriving")
        assert [film.id async for film in client.films()] == ["arriving", "path"]
        out = io.BytesIO()
        facts = await client.download("films/arriving", out)
    assert out.getvalue() == FILM
    assert facts == refilm.DownloadFacts(len(FILM), "video/mp4", "arriving.mp4")


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_upload_that_is_cut_goes_on_where_it_was(
    library: Library, cable: Cable, path: Path, asynchronous: bool
) -> None:
    def cut_twice(committed: int) -> None:
        if committed >= (2 + 2 * cable.cuts) * PART_BYTES:
            cable.cut()

    library.after_commit = cut_twice
    if asynchronous:

        async def upload() -> refilm.Film:
            async with refilm.aio.Client(cable.address) as client:
                return await client.upload_film(path, film_id="bunny")

        film = asyncio.run(upload())
    else:
        with refilm.Client(cable.address) as client:
            film = client.upload_film(path, film_id="bunny")

    assert cable.cuts == 2
    assert library.bytes["films/bunny"] == FILM
    assert film.digest == f"sha256:{hashlib.sha256(FILM).hexdigest()}"
    offsets = [opening.write_offset_bytes for opening in library.openings]
    assert offsets[0] == 0 and offsets[1] >= 2 * PART_BYTES and offsets[-1] >= 4 * PART_BYTES
    assert len({opening.settings.upload_id for opening in library.openings}) == 1


def test_an_upload_whose_answer_was_lost_is_found_complete(library: Library, cable: Cable) -> None:
    library.before_answer = cable.cut
    with refilm.Client(cable.address) as client:
        assert client.upload_film(FILM, film_id="bunny").name == "films/bunny"
    assert cable.cuts == 1
    assert len(library.openings) == 1


def test_an_upload_outlives_what_passes(library: Library, path: Path) -> None:
    soon = error_details_pb2.RetryInfo(retry_delay=Duration(nanos=1_000_000))
    passing = [
        (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE", [soon]),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_UPLOADS", [soon]),
        (grpc.StatusCode.ABORTED, "CALLER_IDLE", [soon]),
        (grpc.StatusCode.FAILED_PRECONDITION, "UPLOAD_OFFSET_MISMATCH", [soon]),
    ]
    lasting = [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "FILM_TOO_LARGE", []),
        (grpc.StatusCode.FAILED_PRECONDITION, "OTHER", [soon]),
    ]
    with refilm.Client(library.address) as client:
        library.faults = passing * 2
        client.upload_film(path, film_id="bunny")
        assert library.faults == []
        for fault in lasting:
            library.faults = [fault]
            with pytest.raises(refilm.RefilmError) as caught:
                client.upload_film(path, film_id="other")
            assert caught.value.reason == fault[1]
        # Not forever.
        library.faults = passing[:1] * 20
        with pytest.raises(refilm.UnavailableError):
            client.upload_film(path, film_id="other")
        assert len(library.faults) == 20 - 9


def test_what_cannot_be_read_again_is_not_resumed(library: Library, cable: Cable) -> None:
    cable.cut_after(2_500_000)
    with (
        refilm.Client(cable.address) as client,
        pytest.raises(refilm.UnavailableError),
    ):
        client.upload_film(in_pieces(), film_id="bunny")
    assert len(library.openings) == 1


def test_a_later_call_goes_on_with_an_upload_by_its_id(library: Library, path: Path) -> None:
    with refilm.Client(library.address) as client:
        library.uploads["mine"] = bytearray(FILM[: 2 * PART_BYTES])
        assert client.upload("mine") == refilm.Upload("mine", 2 * PART_BYTES, None)
        film = client.upload_film(in_pieces(), film_id="bunny", upload_id="mine")
        assert library.openings[0].write_offset_bytes == 2 * PART_BYTES
        assert library.bytes["films/bunny"] == FILM
        # And again, when it is complete: nothing is sent.
        assert client.upload_film(path, film_id="bunny", upload_id="mine") == film
        assert client.upload("mine").film == film
    assert len(library.openings) == 1


def test_an_upload_of_something_else_under_the_same_id_is_found_out(library: Library) -> None:
    library.uploads["mine"] = bytearray(b"another film" * 1000)
    with refilm.Client(library.address) as client:
        with pytest.raises(refilm.DataLossError, match="films/bunny holds other bytes"):
            client.upload_film(FILM, film_id="bunny", upload_id="mine")
        with pytest.raises(refilm.DataLossError, match="films/bunny holds other bytes"):
            client.upload_film(FILM, film_id="bunny", upload_id="mine")
        library.uploads["longer"] = bytearray(FILM)
        with pytest.raises(ValueError, match="the source ends after 10 bytes"):
            client.upload_film(FILM[:10], upload_id="longer")


def test_what_the_source_raises_is_raised(library: Library) -> None:
    def broken() -> Iterator[bytes]:
        yield FILM[:100]
        raise RuntimeError("the tape is torn")

    with refilm.Client(library.address) as client:
        with pytest.raises(RuntimeError, match="the tape is torn"):
            client.upload_film(broken(), size=len(FILM))
        assert list(client.films()) == []


def test_faults_of_an_upload_are_named(library: Library, path: Path) -> None:
    with refilm.Client(library.address) as client:
        with pytest.raises(refilm.InvalidRequestError, match="no film"):
            client.upload_film(b"no film at all")
        client.upload_film(path, film_id="bunny")
        with pytest.raises(refilm.AlreadyExistsError) as caught:
            client.upload_film(path, film_id="bunny")
        assert (caught.value.reason, caught.value.code) == (
            "FILM_EXISTS",
            grpc.StatusCode.ALREADY_EXISTS,
        )
        with pytest.raises(FileNotFoundError):
            client.upload_film(path.with_name("missing.mp4"))
        with pytest.raises(refilm.NotFoundError):
            client.cancel_upload("never-begun")


def test_nobody_there_is_said_at_once(path: Path) -> None:
    with refilm.Client("127.0.0.1:1") as client, ThreadPoolExecutor() as threads:
        for call in (
            threads.submit(client.upload_film, path),
            threads.submit(client.download, "films/bunny", io.BytesIO()),
            threads.submit(client.wait_for_reconstruction, "films/bunny/reconstructions/1"),
        ):
            with pytest.raises(refilm.UnavailableError, match="cannot be reached"):
                call.result()


def test_closing_the_client_ends_the_tries(library: Library, cable: Cable, path: Path) -> None:
    cable.cut_after(2_500_000)
    client = refilm.Client(cable.address)
    raised: list[BaseException] = []

    def upload() -> None:
        try:
            client.upload_film(path)
        except refilm.RefilmError as error:
            raised.append(error)

    worker = threading.Thread(target=upload)
    worker.start()
    with library.arrived:
        library.arrived.wait_for(lambda: library.uploads and any(library.uploads.values()))
    cable.close()
    client.close()
    worker.join(30)
    assert not worker.is_alive()
    assert isinstance(raised[0], (refilm.CancelledError, refilm.UnavailableError))
