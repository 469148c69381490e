"""Sandboxed processes for films and pictures: starting, confining and talking to them."""
