"""An address database of a few lines."""

from collections.abc import Mapping

from controlplane.core.model import Location


class FakeGeo:
    """Satisfies the GeoLocator port: answers from a table, None for everything else."""

    def __init__(self, places: Mapping[str, Location] | None = None) -> None:
        self.places = dict(places or {})

    def locate(self, address: str) -> Location | None:
        return self.places.get(address)
