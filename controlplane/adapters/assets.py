"""Files that come with the package: pages of web/, topologies of regions/.

They lie at the repository's root in a source checkout, and in the package (_web, _regions) in a wheel.
"""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def web_dir() -> Path:
    """Return the folder of the web pages. Raises FileNotFoundError when the installation lacks it."""
    return _find("_web", "web")


def regions_dir() -> Path:
    """Return the folder of the topology files. Raises FileNotFoundError when the installation lacks it."""
    return _find("_regions", "regions")


def _find(packaged: str, in_checkout: str) -> Path:
    for folder in (_PACKAGE / packaged, _PACKAGE.parent / in_checkout):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"neither {packaged} in the package nor {in_checkout} beside it")
