"""Renditions in the store: the segments read as one file."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from film.output import Layout, OutputSettings, Quality, Size
from service.library import layout
from service.library.renditions import (
    RenditionManifest,
    Renditions,
    RenditionSegment,
    rendition_id,
)
from service.library.verified_reads import DamagedError
from service.storage.objects import ObjectStore
from tests.support.stored_latents import model

PCA = model("a")
SETTINGS = OutputSettings(sound=False, quality=Quality.HIGH)
RENDITION = rendition_id(PCA.digest, SETTINGS)
PIECES = [np.random.default_rng(size).bytes(size) for size in (700, 5000, 1, 3_000_000, 800)]
WHOLE = b"".join(PIECES)


def written(store: ObjectStore, attempt: str = "attempt-1") -> RenditionManifest:
    folder = f"{layout.rendition_folder('film', RENDITION)}{attempt}/"
    keys = [f"{folder}init.mp4", *(f"{folder}{number:06d}.m4s" for number in range(1, 5))]
    for key, data in zip(keys, PIECES, strict=True):
        store.put(key, data)
    segments = tuple(
        RenditionSegment(key, len(data), 10, 1000 * number, hashlib.sha256(data).hexdigest())
        for number, (key, data) in enumerate(zip(keys[1:], PIECES[1:], strict=True))
    )
    return RenditionManifest(
        "film",
        "uid",
        RENDITION,
        PCA,
        SETTINGS,
        Fraction(1, 24000),
        40,
        Fraction(5, 3),
        ("The sound was left out.",),
        keys[0],
        len(PIECES[0]),
        segments,
        datetime.now(UTC),
    )


@pytest.fixture
def committed(object_store: ObjectStore) -> tuple[Renditions, RenditionManifest]:
    renditions = Renditions(object_store)
    return renditions, renditions.commit(written(object_store))


places = st.integers(690, 710) | st.integers(5690, 5710) | st.integers(0, len(WHOLE) + 5)


def test_what_is_found_is_what_was_committed(object_store: ObjectStore) -> None:
    manifest = written(object_store)
    assert Renditions(object_store).find("film", RENDITION) is None
    assert Renditions(object_store).commit(manifest) == manifest
    assert Renditions(object_store).find("film", RENDITION) == manifest
    assert list(Renditions(object_store).list("film")) == [manifest]
    assert list(Renditions(object_store).list("other")) == []


def test_any_bytes_are_those_of_the_joined_segments(committed) -> None:
    renditions, manifest = committed
    assert renditions.size(manifest) == len(WHOLE)

    @settings(max_examples=30, deadline=None)
    @given(start=places, size=st.none() | places)
    def read(start: int, size: int | None) -> None:
        pieces = list(renditions.bytes(manifest, start, size))
        stop = None if size is None else start + size
        assert b"".join(pieces) == WHOLE[start:stop]
        assert all(0 < len(piece) <= 2**20 for piece in pieces)

    read()


def test_the_second_commit_gets_the_first_one_back(object_store: ObjectStore) -> None:
    first = Renditions(object_store).commit(written(object_store, "attempt-1"))
    late = Renditions(object_store)
    second = late.commit(written(object_store, "attempt-2"))
    assert second == first
    late.drop_attempt("film", RENDITION, "attempt-2")
    late.drop_attempt("film", RENDITION, "attempt-1")
    left = [info.key for info in object_store.list(layout.rendition_folder("film", RENDITION))]
    assert not any("attempt-2" in key for key in left)
    assert b"".join(late.bytes(second)) == WHOLE


@pytest.mark.parametrize("damage", ["missing", "shorter", "not what was written"])
def test_damage_is_said_without_a_key(object_store: ObjectStore, committed, damage: str) -> None:
    renditions, manifest = committed
    key = manifest.segments[1].key
    if damage == "missing":
        object_store.delete([key])
    else:
        object_store.put(key, b"" if damage == "shorter" else b"?")
    with pytest.raises(DamagedError, match=f"segment 2 of a rendition is {damage}") as caught:
        list(renditions.bytes(manifest))
    assert key not in caught.value.message


def test_every_setting_has_a_rendition_of_its_own() -> None:
    ids = {
        rendition_id(digest, OutputSettings(layout_, size, sound, quality))
        for digest, layout_, size, sound, quality in product(
            (PCA.digest, model("b").digest), Layout, Size, (True, False), Quality
        )
    }
    assert len(ids) == 2 * len(Layout) * len(Size) * 2 * len(Quality)
    assert rendition_id(PCA.digest, replace(SETTINGS)) == RENDITION
    assert RENDITION.startswith("a" * 64 + "-") and len(RENDITION) == 64 + 1 + 16
