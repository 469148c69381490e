"""The quality report: `make quality`, or `python -m benchmarks.quality`."""

import os

# Threads that wait for one another sleep instead of spinning: several times as fast where other
# programs want the cores too. Read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
