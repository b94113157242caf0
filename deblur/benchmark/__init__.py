"""Speed against what else could be used: the sections of `python scripts/benchmark.py`."""
