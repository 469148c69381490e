"""Whether a caller's stream ended, or the caller did.

To a handler of grpc.aio a call that was cancelled, or whose connection broke, mostly looks
half-closed first: its requests just end, and the cancellation follows a moment later. Whoever takes
the end of a stream for the end of a film must wait for that moment.
"""

from typing import TypeVar

import grpc

Request = TypeVar("Request")
Response = TypeVar("Response")


async def ended_by_caller(context: "grpc.aio.ServicerContext[Request, Response]") -> None:
    """Return if the requests ended because the caller half-closed; else the call is cancelled here.

    Sends the initial metadata: gRPC's core handles that after what ended the requests, and does
    not do it on a broken stream. So it is for calls that have not answered yet, and once.
    """
    await context.send_initial_metadata(())
