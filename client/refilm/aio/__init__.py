"""The asynchronous client: the same as `refilm.Client`, awaited."""

from refilm.aio._client import Client

__all__ = ["Client"]

Client.__module__ = __name__
