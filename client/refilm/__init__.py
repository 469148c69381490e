"""Client of Refilm."""
