"""DownloadFilm and the URLs of the store, on one film with all that can be made of it."""

import hashlib
import io
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refilm.v1 import autoencoder_pb2 as auto
from refilm.v1 import library_pb2 as pb

from film.output import Layout, OutputSettings, Quality
from service.library import layout
from service.library.films import Film, Films
from service.library.renditions import (
    RenditionManifest,
    Renditions,
    RenditionSegment,
    rendition_id,
)
from tests.service.library.conftest import Library
from tests.support.library_calls import PART, TIMEOUT, film_bytes
from tests.support.messages import LOOK
from tests.support.status import error_of
from tests.support.stored_latents import add_latents, model, random_rows

PCA = model("a")
PIECES = [np.random.default_rng(size).bytes(size) for size in (700, 3_000_000, 1, 900)]
WHOLE = b"".join(PIECES)
ROWS = random_rows(1000)
SIZE = PART + 4321
FILM = film_bytes(SIZE)

HOUR = 3600


def keep_rendition(library: Library, film: Film) -> str:
    """Keep a rendition of bytes that are no film; return its name."""
    output = OutputSettings(layout=Layout.SIDE_BY_SIDE, sound=False, quality=Quality.DRAFT)
    rendition = rendition_id(PCA.digest, output)
    folder = f"{layout.rendition_folder(film.id, rendition)}attempt/"
    keys = [f"{folder}init.mp4", *(f"{folder}{number:06d}.m4s" for number in (1, 2, 3))]
    for key, data in zip(keys, PIECES, strict=True):
        library.store.put(key, data)
    segments = tuple(
        RenditionSegment(key, len(data), 10, 0, hashlib.sha256(data).hexdigest())
        for key, data in zip(keys[1:], PIECES[1:], strict=True)
    )
    Renditions(library.store).commit(
        RenditionManifest(
            film.id,
            film.uid,
            rendition,
            PCA,
            output,
            Fraction(1, 24000),
            30,
            Fraction(5, 4),
            (),
            keys[0],
            len(PIECES[0]),
            segments,
            datetime.now(UTC),
        )
    )
    return f"films/{film.id}/renditions/{rendition}"


@dataclass(repr=False)
class Kept:
    """A film with latents of 1000 frames in parts, and a rendition of four pieces."""

    library: Library
    contents: dict[str, bytes]
    """What can be downloaded, by name: source, rendition, latents."""


@pytest.fixture(scope="module")
def kept(running_library: Library) -> Iterator[Kept]:
    library = running_library
    name = library.client.upload(FILM, film_id="kept", title="Kept: a film").name
    film = Films(library.store).get("kept")
    add_latents(library.store, film, PCA, ROWS, part_rows=(300, 1, 699))
    rendition = keep_rendition(library, film)
    latents = f"films/kept/latents/{'a' * 64}"
    yield Kept(library, {name: FILM, rendition: WHOLE, latents: npy(ROWS.latents)})
    library.store.delete(info.key for info in library.store.list(""))


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_range_of_anything_is_right_to_the_byte(kept: Kept, data: st.DataObject) -> None:
    library, contents = kept.library, kept.contents
    for name, whole in contents.items():
        size = len(whole)
        edges = [edge for edge in (0, 127, 128, 129, 700, PART, size - 1, size) if edge <= size]
        start = data.draw(st.sampled_from(edges) | st.integers(0, size))
        limit = data.draw(st.integers(0, 3000) | st.integers(0, size + 10))
        stop = start + limit if limit else None
        assert library.client.download(name, start, limit) == whole[start:stop], name


def test_downloads_say_what_they_are(kept: Kept) -> None:
    library, contents = kept.library, kept.contents
    facts = [library.client.download_with_facts(name)[0] for name in contents]
    assert [one.size_bytes for one in facts] == [len(whole) for whole in contents.values()]
    assert [(one.media_type, one.file_name) for one in facts] == [
        ("video/mp4", "kept-a-film.mp4"),
        ("video/mp4", "kept-a-film.refilm.mp4"),
        ("application/x-npy", "kept-a-film.npy"),
    ]


def test_a_film_shows_what_was_made_of_it(kept: Kept) -> None:
    library, contents = kept.library, kept.contents
    film = library.client.get("films/kept")
    (rendition,), (latents,) = film.renditions, film.latents
    assert [film.name, rendition.name, latents.name] == list(contents)
    identity = auto.ModelIdentity(name="models/pca/versions/1", digest=PCA.digest)
    assert rendition.model == latents.model == identity
    assert rendition.settings == LOOK(
        layout=LOOK.LAYOUT_SIDE_BY_SIDE,
        picture_size=LOOK.PICTURE_SIZE_MODEL,
        sound=LOOK.SOUND_NONE,
        quality=LOOK.QUALITY_DRAFT,
    )
    assert (rendition.size_bytes, rendition.frames, latents.frames) == (len(WHOLE), 30, 1000)
    assert rendition.duration == Duration(seconds=1, nanos=250_000_000)
    assert not library.client.page().films[0].renditions


def test_what_begins_beyond_the_end_is_out_of_range(kept: Kept) -> None:
    library, contents = kept.library, kept.contents
    for name, whole in contents.items():
        beyond = len(whole) + 1
        failed = error_of(lambda name=name, at=beyond: library.client.download(name, at))
        assert (failed.code, failed.reason) == (
            grpc.StatusCode.OUT_OF_RANGE,
            "READ_OFFSET_OUT_OF_RANGE",
        )
        assert failed.metadata["size_bytes"] == str(len(whole))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("films/nowhere", "FILM_NOT_FOUND"),
        (f"films/nowhere/latents/{'a' * 64}", "FILM_NOT_FOUND"),
        (f"films/kept/latents/{'b' * 64}", "LATENTS_NOT_FOUND"),
        (f"films/kept/renditions/{'a' * 64}-{'0' * 16}", "RENDITION_NOT_FOUND"),
    ],
)
def test_what_is_not_there_is_not_found(kept: Kept, name: str, reason: str) -> None:
    library = kept.library
    failed = error_of(lambda: library.client.download(name))
    assert (failed.code, failed.reason) == (grpc.StatusCode.NOT_FOUND, reason)


def test_metrics_count_what_was_downloaded(kept: Kept) -> None:
    library = kept.library
    before = library.service.metric("refilm_download_bytes_total")
    library.client.download("films/kept", 5, 100_000)
    assert library.service.metric("refilm_download_bytes_total") == before + 100_000


def test_the_store_itself_serves_what_its_urls_name(kept: Kept) -> None:
    library, contents = kept.library, kept.contents
    if "REFILM_S3_ENDPOINT" not in library.kept.environment:
        pytest.skip("a folder has no URLs")
    source, rendition, latents = contents
    answers = [
        library.client.stub.CreateDownloadUrls(pb.CreateDownloadUrlsRequest(name=name))
        for name in contents
    ]
    left = answers[0].expire_time.ToDatetime(UTC) - datetime.now(UTC)
    assert timedelta(minutes=58) < left <= timedelta(hours=1)
    bodies = [[_get(url) for url in answer.urls] for answer in answers]
    assert bodies[0] == [contents[source]]
    assert b"".join(bodies[1]) == contents[rendition] and len(bodies[1]) == 4
    rows = np.concatenate([np.load(io.BytesIO(body)) for body in bodies[2]])
    assert npy(rows) == contents[latents]
    with pytest.raises(urllib.error.HTTPError) as refused:
        _get(answers[0].urls[0][:-1] + ("0" if answers[0].urls[0][-1] != "0" else "1"))
    assert refused.value.code == 403


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
        return answer.read()
