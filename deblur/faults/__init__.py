"""What goes wrong, tried on purpose: kills, wrong commands, damaged and hostile files. `python scripts/faults.py`."""
