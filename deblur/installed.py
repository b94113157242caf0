"""What Python knows of the packages that are installed."""

from __future__ import annotations

from importlib.metadata import Distribution, PackageNotFoundError, distribution


def installed(package: str) -> Distribution | None:
    """What is known of a package; None if it is not installed, as this one itself where it runs from a clone."""
    try:
        return distribution(package)
    except PackageNotFoundError:
        return None
