"""The quality report: `make quality`, or `python -m benchmarks.quality`."""
