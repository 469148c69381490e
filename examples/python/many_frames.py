"""Encodes many pictures over one stream with asyncio.

python examples/python/many_frames.py HOST:PORT PICTURE...
"""

import asyncio
import sys

import refilm.aio


async def main(address: str, *pictures: str) -> None:
    """Print the first numbers of each picture's latent."""
    async with refilm.aio.Client(address) as client:
        # Many are in flight at once; the answers come in the order of the pictures.
        answers = client.encode_stream(pictures)
        index = 0
        async for encoding in answers:
            print(f"{pictures[index]}: {encoding.latent[:4]} …")
            index += 1


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
