"""Restoring pictures of any size with a trained network: `python restore.py`."""
