from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.quality import codecs
from benchmarks.quality.codecs import AV1, Codec, Coded, encode_at, is_equal


@pytest.fixture
def search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[float], float], float], tuple[Coded, list[str]]]:
    """Look for a size among those that an encoder would make; return what was found, and tries."""

    def look(size: Callable[[float], float], wanted: float) -> tuple[Coded, list[str]]:
        def encode(codec: Codec, number: float, frames: object, path: Path) -> float:
            path.touch()
            return size(number)

        monkeypatch.setattr(codecs, "_encode", encode)
        tries: list[str] = []
        coded = encode_at(AV1, lambda: iter(()), wanted, tmp_path / "film.mkv", tries.append)
        return coded, tries

    return look


Search = Callable[[Callable[[float], float], float], tuple[Coded, list[str]]]


@pytest.mark.parametrize("wanted", [40, 200, 1500])
def test_a_size_is_found_in_a_few_tries(search: Search, wanted: float) -> None:
    # Steeper than is guessed, and not a straight line.
    coded, tries = search(lambda number: 9_000 * 2 ** (-number / 9) / (1 + number / 40), wanted)
    assert is_equal(coded, wanted) and len(tries) <= 8


def test_where_sizes_jump_up_and_down_the_neighbours_are_read(search: Search) -> None:
    def size(number: float) -> float:
        return 200 * 2 ** ((46 - number) / 15) * (1.03 if round(number * 4) % 3 else 0.97)

    coded, tries = search(size, 200)
    assert is_equal(coded, 200) and len(tries) <= 8


@pytest.mark.parametrize(("wanted", "number"), [(1e6, AV1.lowest), (0.01, AV1.highest)])
def test_a_size_out_of_reach_is_come_as_near_to_as_the_encoder_goes(
    search: Search, wanted: float, number: float
) -> None:
    coded, tries = search(lambda number: 1000 * 2 ** (-number / 15), wanted)
    assert coded.number == number and not is_equal(coded, wanted)
    assert len(tries) == 1
