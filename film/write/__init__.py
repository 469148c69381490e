"""Writes films: pictures and sound to fragmented MP4."""
