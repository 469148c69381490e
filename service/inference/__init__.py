"""Frames to latents to frames through Triton: the only place that knows tritonclient."""
