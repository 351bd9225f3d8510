"""Which version of Citemark this is."""

from importlib.metadata import PackageNotFoundError, version


def release() -> str:
    """The version of Citemark, as far as it is installed."""
    try:
        return version("citemark")
    except PackageNotFoundError:
        return "0"
