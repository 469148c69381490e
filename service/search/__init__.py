"""Questions to the latents of the library's films. The only place that knows faiss."""
