"""The library: films, uploads, latents, renditions, and who works on them, in a store."""
