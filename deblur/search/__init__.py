"""Searching for the best settings: `python tune.py`."""
