"""The library's domain: films, uploads, latents, renditions, jobs and leases, in a store."""
