"""numpy reads what is written here, and what numpy writes is read here."""

import io
from array import array
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refilm import _arrays

FLOATS = st.lists(st.floats(width=32, allow_nan=False), max_size=30)


@given(FLOATS)
def test_numpy_reads_our_floats(values: list[float]) -> None:
    loaded = np.load(io.BytesIO(_arrays.npy(array("f", values))))
    assert loaded.dtype == np.float32
    assert loaded.tolist() == values


@given(st.integers(1, 5), st.integers(1, 7), st.sampled_from(["<f4", "<f8", "<i8"]))
def test_we_read_numpys_arrays(rows: int, columns: int, kind: str) -> None:
    written = np.arange(rows * columns).reshape(rows, columns).astype(kind)
    file = io.BytesIO()
    np.save(file, written)
    file.seek(0)
    values, shape = _arrays.read_npy(file)
    assert shape == (rows, columns)
    assert values.tolist() == written.ravel().tolist()


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20))
def test_texts_go_both_ways(text: str) -> None:
    written = _arrays.npy_text(text)
    assert str(np.load(io.BytesIO(written))) == text
    assert _arrays.read_npy_text(written) == text


@given(st.binary(max_size=200))
def test_damaged_files_are_refused_as_such(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"npy|array"):
        _arrays.read_npy(io.BytesIO(b"\x93NUMPY\x01\x00" + data))


def _fortran() -> np.ndarray:
    return np.asfortranarray(np.zeros((3, 200), np.float32))


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (np.zeros((2, 3, 200), np.float32), "holds no latents"),
        (np.zeros((0, 200), np.float32), "is empty"),
        (np.zeros(200, np.int64), "holds no latents"),
        (np.zeros(200, np.float16), "float32, float64 or int64"),
        (_fortran(), "C order"),
    ],
)
def test_arrays_that_are_no_latents_are_refused(
    tmp_path: Path, written: np.ndarray, words: str
) -> None:
    path = tmp_path / "l.npy"
    np.save(path, written)
    with pytest.raises(ValueError, match=words):
        _arrays.load_latents(path)


def test_a_npz_without_latents_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "l.npz"
    np.savez(path, other=np.zeros(3))
    with pytest.raises(ValueError, match="holds no array named latents"):
        _arrays.load_latents(path)
    path.write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"is no \.npz file"):
        _arrays.load_latents(path)
