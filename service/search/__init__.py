"""Search in the latents of the library's films. The only package that uses faiss."""
