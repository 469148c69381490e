"""Encodes a picture to 200 numbers, and decodes them again.

python examples/python/frame.py PICTURE OUT.png [HOST:PORT]
"""

import sys
from pathlib import Path

import refilm


def main(picture: str, out: str, address: str = "127.0.0.1:50051") -> None:
    """Write a model's reconstruction of a picture."""
    with refilm.Client(address) as client:
        encoding = client.encode(picture, embedding=True)
        print(f"{encoding.model.name} v{encoding.model.version}: {encoding.latent[:4]} …")
        # The identity selects the version that made the latent.
        decoded = client.decode(encoding.latent, model=encoding.model, format="png")
    Path(out).write_bytes(decoded.data)


if __name__ == "__main__":
    main(*sys.argv[1:])
