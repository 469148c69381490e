"""A warm fork server for the tests of a module."""

import pytest

from film.process.spawner import Spawner
from tests.film.process.asking import MAIN


@pytest.fixture
async def spawner():
    spawner = Spawner([MAIN], isolated=False)
    await spawner.start()
    yield spawner
    await spawner.close()
