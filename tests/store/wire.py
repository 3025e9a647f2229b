"""A way to Redis that a test can cut, for one replica and not for another."""

from controlplane.store.redis.connect import Connector, Link


class Wire:
    """A way to Redis that can be cut."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self.is_cut = False

    @property
    def partitions(self) -> int:
        return self._connector.partitions

    async def connect(self, partition: int) -> Link:
        if self.is_cut:
            raise ConnectionError("cut")
        return await self._connector.connect(partition)

    async def close(self) -> None:
        await self._connector.close()
