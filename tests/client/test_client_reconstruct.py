"""Reconstructions against a scripted server: what lies where when it goes well."""

import gzip
import io
from pathlib import Path

import numpy as np
import pytest
import refilm
import refilm.aio
from refilm.v1 import autoencoder_pb2 as pb

from tests.client.reconstructions import names, whole
from tests.client.scripted_service import IDENTITY, ScriptedService


def test_a_film_goes_through_and_appears_whole(
    scripted: ScriptedService, film: Path, tmp_path: Path
) -> None:
    scripted.on_reconstruct = whole(scripted)
    out = tmp_path / "out.mp4"
    out.write_bytes(b"an older one")
    seen: list[refilm.Progress] = []
    with refilm.Client(scripted.address) as client:
        result = client.reconstruct(
            film,
            out,
            model="pca",
            layout="side_by_side",
            size="source",
            sound=False,
            quality="high",
            progress=seen.append,
        )

    assert out.read_bytes() == film.read_bytes()
    assert names(tmp_path) == {"film.mkv", "out.mp4"}
    settings = scripted.requests[0]
    assert isinstance(settings, pb.ReconstructVideoSettings)
    assert settings.model.name == "models/pca"
    look = pb.RenditionSettings
    assert settings.rendition == look(
        layout=look.LAYOUT_SIDE_BY_SIDE,
        picture_size=look.PICTURE_SIZE_SOURCE,
        sound=look.SOUND_NONE,
        quality=look.QUALITY_HIGH,
    )
    assert settings.film_size_bytes == 3_000_000
    assert not settings.include_latents
    assert (result.frames, result.duration, result.warnings) == (
        48,
        2.0,
        ("one thing was repaired",),
    )
    assert (result.film.sound_tracks[0].codec, result.film.width) == ("aac", 640)
    assert result.output.sound_track_actions == ("copied",)
    assert (result.output.width, result.output.height) == (256, 144)
    assert (result.mean_psnr_db, seen[0].queue_position) == (None, None)
    assert seen[0].fraction == 12 / 48
    assert seen[0].bytes_total == 3_000_000
    assert (seen[-1].fraction, seen[-1].frames_written, seen[-1].eta) == (1.0, 48, 0.0)
    assert seen[-1].bytes_sent == 3_000_000


async def test_the_asynchronous_client_does_the_same(
    scripted: ScriptedService, film: Path, tmp_path: Path
) -> None:
    scripted.on_reconstruct = whole(scripted)
    out = tmp_path / "out.mp4"
    whole_film = film.read_bytes()  # noqa: ASYNC240  # a test may wait for its disk
    async with refilm.aio.Client(scripted.address) as client:
        result = await client.reconstruct(film, out, latents=tmp_path / "l.npy")
    assert result.film_digest == "sha256:film"
    assert out.read_bytes() == whole_film
    assert np.load(tmp_path / "l.npy").shape[1] == 200


def test_file_objects_are_read_from_where_they_stand(
    scripted: ScriptedService, film: Path, tmp_path: Path
) -> None:
    scripted.on_reconstruct = whole(scripted)
    packed = tmp_path / "film.gz"
    packed.write_bytes(gzip.compress(film.read_bytes(), 1))
    with refilm.Client(scripted.address) as client:
        for opened, size in (
            (io.BytesIO(film.read_bytes()), 3_000_000),
            (film.open("rb"), 3_000_000),
            # The packed file's size is not the film's.
            (gzip.GzipFile(packed), 0),
        ):
            with opened:
                out = io.BytesIO()
                client.reconstruct(opened, out)
                assert out.getvalue() == film.read_bytes()
                assert not opened.closed
                assert scripted.requests[-1].film_size_bytes == size
        with film.open("rb") as opened:
            opened.seek(1_000_000)
            client.reconstruct(opened, io.BytesIO())
            assert scripted.requests[-1].film_size_bytes == 2_000_000


def test_latents_are_saved_with_their_times_and_their_model(
    scripted: ScriptedService, film: Path, tmp_path: Path
) -> None:
    scripted.on_reconstruct = whole(scripted)
    with refilm.Client(scripted.address) as client:
        client.reconstruct(film, io.BytesIO(), latents=tmp_path / "l.npz")
        client.reconstruct(film, io.BytesIO(), latents=tmp_path / "l.npy")
        with pytest.raises(ValueError, match=r"\.npy or \.npz, not as 'l\.txt'"):
            client.reconstruct(film, io.BytesIO(), latents=tmp_path / "l.txt")

    saved = np.load(tmp_path / "l.npz")
    rows = len(saved["pts"])
    assert rows >= 6 and rows % 2 == 0
    assert saved["latents"].shape == (rows, 200) and saved["latents"].dtype == np.float32
    assert saved["latents"][:4, 0].tolist() == [0.25, 0.5, 1.25, 1.5]
    assert saved["pts"][:4].tolist() == [0, 1, 1, 2]
    assert saved["time_base"].tolist() == [1, 24]
    assert (str(saved["model"]), int(saved["version"])) == ("pca", 2)
    assert str(saved["digest"]) == IDENTITY.digest
    np.testing.assert_array_equal(np.load(tmp_path / "l.npy"), saved["latents"])
    assert names(tmp_path) == {"film.mkv", "l.npy", "l.npz"}


def test_nothing_is_sent_where_the_output_cannot_be_written(
    scripted: ScriptedService, film: Path, tmp_path: Path
) -> None:
    scripted.on_reconstruct = whole(scripted)
    with refilm.Client(scripted.address) as client:
        with pytest.raises(FileNotFoundError):
            client.reconstruct(film, tmp_path / "nowhere" / "out.mp4")
        with pytest.raises(IsADirectoryError):
            client.reconstruct(film, tmp_path)
        with pytest.raises(ValueError, match="is the film itself"):
            client.reconstruct(film, film)
        with pytest.raises(FileNotFoundError):
            client.reconstruct(tmp_path / "no.mkv", tmp_path / "out.mp4")
        with pytest.raises(ValueError, match="layout is one of"):
            client.reconstruct(film, tmp_path / "out.mp4", layout="upside_down")  # type: ignore[arg-type]
    assert scripted.requests == []
    assert names(tmp_path) == {"film.mkv"}


def test_the_stream_form_yields_everything_in_its_order(
    scripted: ScriptedService, film: Path
) -> None:
    scripted.on_reconstruct = whole(scripted)
    with refilm.Client(scripted.address) as client:
        events = list(client.reconstruct_stream(film, latents=True))
    kinds = [type(event).__name__ for event in events]
    assert kinds[:4] == ["ReconstructionFacts", "bytes", "Progress", "LatentBatch"]
    assert kinds[-1] == "Reconstruction"
    assert b"".join(event for event in events if isinstance(event, bytes)) == film.read_bytes()
    batch = next(event for event in events if isinstance(event, refilm.LatentBatch))
    assert batch.pts == (0, 1)
    assert batch.latents.shape == (2, 200)
