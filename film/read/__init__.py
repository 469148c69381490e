"""Reads films: bytes to model frames with their times, and the sound between them."""
