"""The tables for tone mapping that come with the project are those that are computed."""

import numpy as np
import pytest

from film.read.colour_cube import make_cube, shipped_cubes

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", sorted(shipped_cubes()))
def test_shipped_cubes_are_what_is_computed(kind: tuple[int, int]):
    np.testing.assert_array_equal(shipped_cubes()[kind], make_cube(*kind))
