"""Rows of films that were never shot: embeddings, one a second, clustered as a film's shots are.

Matched to Big Buck Bunny (10 min) and Sintel (3 min), embedded by a `pca` trained on the first,
one row a second. The cosine of rows that lie so far apart, 25th / 50th / 75th percentile:

               1 s               2 s               4 s               over 10 s
    Bunny      .07 / .53 / .86   .00 / .12 / .54   -.02 / .02 / .19  -.03 / -.01 / .02
    Sintel     .24 / .55 / .87   .10 / .31 / .58   .03 / .18 / .33   -.02 / .06 / .15
    made here  .23 / .67 / .92   .11 / .25 / .74   .06 / .14 / .28   -.04 / .01 / .06

How: a film has 30 settings. A shot lasts 3.5 s in the median (log-normal, sigma 0.7), stays in the
setting of the one before (four times of five), begins somewhere in it, or once in ten times where
one of the twelve shots before it began, and then wanders: x(t+1) = rho x(t) + noise around the
setting, rho drawn for each shot from Beta(1.3, 0.6), from restless to almost still.
"""

import numpy as np
from numpy.typing import NDArray

ROWS = 7200
"""A feature film of two hours."""
SIZE = 200

_SETTINGS = 30
_LENGTH, _LENGTH_SIGMA = 3.5, 0.7
_CHANGE = 0.2
_SETTING = 0.35
"""The share of a setting in what its shots look like."""
_RETURN, _SAME = 0.1, 0.75
_RHO = (1.2, 0.6)
_DECAY = 37.0
"""Dimensions after which the spectrum has fallen to 1/e."""


def _shape() -> NDArray[np.float32]:
    """Return what turns white noise [N, 200] into noise of the embeddings' spectrum, length 1."""
    weights = np.exp(-np.arange(SIZE) / _DECAY)
    directions = np.linalg.qr(np.random.default_rng(0).standard_normal((SIZE, SIZE))).Q
    shape: NDArray[np.float32] = (
        np.sqrt(weights / weights.sum())[:, np.newaxis] * directions
    ).astype(np.float32)
    return shape


_SHAPE = _shape()


def film_rows(number: int, rows: int = ROWS) -> NDArray[np.float16]:
    """Return the rows of a film [rows, 200], of unit length; the same for the same number."""
    random = np.random.default_rng(number)
    noise = random.standard_normal((rows, SIZE), np.float32) @ _SHAPE
    settings = random.standard_normal((_SETTINGS, SIZE), np.float32) @ _SHAPE
    free = (1.0 - _SETTING**2) ** 0.5
    made = np.empty((rows, SIZE), np.float32)
    beginnings: list[NDArray[np.float32]] = []
    at = setting = 0
    while at < rows:
        length = max(1, round(random.lognormal(np.log(_LENGTH), _LENGTH_SIGMA)))
        if random.random() < _CHANGE:
            setting = int(random.integers(_SETTINGS))
        mean = _SETTING * settings[setting]
        made[at] = mean + free * noise[at]
        if beginnings and random.random() < _RETURN:
            earlier = beginnings[int(random.integers(len(beginnings)))]
            made[at] = _SAME * earlier + (1.0 - _SAME**2) ** 0.5 * noise[at]
        beginnings = [*beginnings[-11:], made[at]]
        rho = random.beta(*_RHO)
        end = min(rows, at + length)
        for place in range(at + 1, end):
            wander = free * (1.0 - rho**2) ** 0.5
            made[place] = mean + rho * (made[place - 1] - mean) + wander * noise[place]
        at = end
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made.astype(np.float16)
