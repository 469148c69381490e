"""Generated stubs of refilm.v1."""
