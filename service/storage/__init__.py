"""Opaque bytes under keys: the interface, a folder, an S3 server."""
