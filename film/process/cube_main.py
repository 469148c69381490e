"""The process that computes a tone mapping table, from two numbers only.

Not done in film processes: a hostile film could forge a table that other films use.
"""

import socket
from collections.abc import Sequence

import av

from film.process.channel import ChildChannel
from film.process.preload import preload
from film.process.protocol import Kind
from film.read.colour_cube import make_cube

preload(av)


def main(descriptors: Sequence[int]) -> None:
    """Make one table, of the transfer curve and primaries asked for."""
    channel = ChildChannel(socket.socket(fileno=descriptors[0]))
    asked = channel.receive().fields()
    channel.send(Kind.DONE, {}, make_cube(asked["transfer"], asked["primaries"]).tobytes())
