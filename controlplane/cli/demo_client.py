"""A headless participant: a real WebRTC client on aiortc, with WHIP (RFC 9725) up and WHEP down.

It does what a browser's page would do: join, publish, subscribe with a fixed number of slots, read from the slot
map who is in which m-line, and join again when the call breaks or an event says that it was moved.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
import aioice.ice
from aiortc import (
    MediaStreamTrack,
    RTCBundlePolicy,
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpSender,
    RTCRtpTransceiver,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError

from controlplane.cli.demo_api import (
    CONNECT_TIMEOUT_S,
    REQUEST_TIMEOUT_S,
    DemoApi,
    RequestRefusedError,
    Seat,
    describe,
    refuse_errors,
    server_sent_events,
)
from controlplane.cli.demo_media import MovingPicture, Tone
from controlplane.cli.demo_tally import Tally

SLOTS_PER_KIND = 2
"""Three participants: everybody sees and hears two others."""
CODECS = {"video": ("video/VP8", "video/rtx"), "audio": ("audio/opus",)}
REJOIN_EVERY_S = 0.25
"""Between attempts to join again, unless an event says sooner where to go."""
CLOSE_WITHIN_S = 2.0
"""For goodbyes: the node on the other side may be dead."""
SLOTS_REL = "urn:thalweg:params:slots"


class CallBrokenError(Exception):
    """The call is over; the message says why."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Who is in an m-line now."""

    participant: str
    hops: int


def stay_on_loopback(urls: Sequence[str]) -> bool:
    """Make aioice gather 127.0.0.1, and only that, if all nodes are on loopback; say whether it was done.

    aioice leaves loopback addresses out, rightly for the Internet. Here the nodes are reachable on nothing else,
    and no packet should leave the machine. The one place where aioice is changed.
    """
    if not all(_is_loopback(urlsplit(url).hostname or "") for url in urls):
        return False
    aioice.ice.get_host_addresses = _loopback_addresses
    return True


def _loopback_addresses(use_ipv4: bool, use_ipv6: bool) -> list[str]:  # noqa: ARG001 - aioice's signature
    return ["127.0.0.1"] if use_ipv4 else []


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class Call:
    """One WHIP and one WHEP session with the node of a seat."""

    def __init__(self, http: aiohttp.ClientSession, seat: Seat, look: int, tally: Tally) -> None:
        self._http = http
        self._seat = seat
        self._tracks: tuple[MediaStreamTrack, ...] = (MovingPicture(look), Tone(look))
        self._tally = tally
        config = RTCConfiguration(
            [_ice_server(server) for server in seat.ice_servers],
            # Nodes bundle everything. aiortc's default leaves the second of two audio m-lines on a transport that
            # it then discards, when video comes first.
            bundlePolicy=RTCBundlePolicy.MAX_BUNDLE,
        )
        self._up = RTCPeerConnection(config)
        self._down = RTCPeerConnection(config)
        self._sessions: list[str] = []
        self._slots: dict[str, Slot] = {}
        self._slots_url = ""

    async def open(self) -> None:
        """Publish and subscribe. Raises CallBrokenError when the node refuses or does not answer."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._publish())
                group.create_task(self._subscribe())
        except* RequestRefusedError as refused:
            raise CallBrokenError(str(refused.exceptions[0])) from refused

    async def carry(self, moved: asyncio.Event) -> None:
        """Count decoded frames until the call breaks or `moved` is set, then raise CallBrokenError."""
        try:
            async with asyncio.TaskGroup() as group:
                for transceiver in self._down.getTransceivers():
                    group.create_task(self._count(transceiver))
                group.create_task(self._follow_slots())
                group.create_task(_until_moved(moved))
                group.create_task(_until_failed(self._up, "WHIP"))
                group.create_task(_until_failed(self._down, "WHEP"))
        except* CallBrokenError as broken:
            raise CallBrokenError(str(broken.exceptions[0])) from None

    async def close(self) -> None:
        """End both sessions; a node that does not answer is left alone."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_WITHIN_S):
                for url in self._sessions:
                    with suppress(aiohttp.ClientError):
                        async with self._http.delete(url, headers=self._auth()):
                            pass
        await self._up.close()
        await self._down.close()

    async def _publish(self) -> None:
        for track in self._tracks:
            transceiver = self._up.addTransceiver(track, direction="sendonly")
            _prefer(transceiver)
        await self._negotiate(self._up, self._seat.whip_url)

    async def _subscribe(self) -> None:
        for kind in ("video", "audio"):
            for _ in range(SLOTS_PER_KIND):
                _prefer(self._down.addTransceiver(kind, direction="recvonly"))
        links = await self._negotiate(self._down, self._seat.whep_url)
        if SLOTS_REL not in links:
            raise RequestRefusedError(f"{self._seat.whep_url} offers no slot map")
        self._slots_url = links[SLOTS_REL]

    async def _negotiate(self, peer: RTCPeerConnection, url: str) -> Mapping[str, str]:
        """Offer and take the answer; return the answer's links by relation."""
        await peer.setLocalDescription(await peer.createOffer())
        headers = {**self._auth(), "Content-Type": "application/sdp"}
        try:
            async with self._http.post(
                url, data=peer.localDescription.sdp, headers=headers
            ) as answer:
                await refuse_errors(answer)
                self._sessions.append(urljoin(url, answer.headers.get("Location", "")))
                sdp = await answer.text()
                links = {
                    str(link.get("rel", "")): str(link["url"]) for link in answer.links.values()
                }
        except (aiohttp.ClientError, TimeoutError) as error:
            raise RequestRefusedError(f"POST {url}: {describe(error)}") from error
        await peer.setRemoteDescription(RTCSessionDescription(sdp, "answer"))
        return links

    async def _count(self, transceiver: RTCRtpTransceiver) -> None:
        track = transceiver.receiver.track
        while track is not None:  # None: the node left this m-line inactive
            try:
                await track.recv()
            except MediaStreamError:
                raise CallBrokenError("a receiving track ended") from None
            if slot := self._slots.get(transceiver.mid or ""):
                self._tally.count(transceiver.kind, slot.participant, slot.hops)

    async def _follow_slots(self) -> None:
        headers = {**self._auth(), "Accept": "text/event-stream"}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S)
        try:
            async with self._http.get(self._slots_url, headers=headers, timeout=timeout) as answer:
                await refuse_errors(answer)
                async for kind, data in server_sent_events(answer):
                    if kind == "slots":
                        self._slots = {
                            slot["mid"]: Slot(slot["participant"], slot["hops"])
                            for slot in data["slots"]
                            if slot["participant"] is not None
                        }
        except (aiohttp.ClientError, TimeoutError, RequestRefusedError) as error:
            raise CallBrokenError(f"the slot map broke: {describe(error)}") from error
        raise CallBrokenError("the slot map ended")

    def _auth(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._seat.token}"}


@dataclass(slots=True)
class Participant:
    """Somebody in a room, at a pretended place."""

    id: str
    place: str
    """The region beside which it pretends to be."""
    look: int
    """Number of its picture's colour and its tone's pitch."""
    room: str
    session: str
    probes: Mapping[str, float]
    """Pretended round trips in milliseconds, by region."""
    tally: Tally = field(default_factory=Tally)
    seat: Seat | None = None
    """Where it sits, once media is negotiated there."""
    trouble: str = "has not joined yet"
    """Why it has no seat."""
    epoch: int = 0
    """Of the assignment in use."""
    newest_epoch: int = 0
    """The highest that an event spoke of."""
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when there is a newer assignment than the one in use."""

    def note_moved(self, epoch: int) -> None:
        """Take note of an event of the room: the participant's assignment has this epoch now."""
        self.newest_epoch = max(self.newest_epoch, epoch)
        if self.newest_epoch > self.epoch:
            self.moved.set()

    async def take_part(self, api: DemoApi, on_seat: Callable[["Participant"], None]) -> None:
        """Stay in the room until cancelled; join again when the call breaks. Leaves when cancelled.

        `on_seat` is called whenever media is negotiated with a node.
        """
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        avoid: list[str] = []
        async with aiohttp.ClientSession(timeout=timeout) as http:
            try:
                while True:
                    avoid = await self._one_call(api, http, avoid, on_seat)
            finally:
                with suppress(RequestRefusedError):
                    await api.leave(self.room, self.id)

    async def _one_call(
        self,
        api: DemoApi,
        http: aiohttp.ClientSession,
        avoid: list[str],
        on_seat: Callable[["Participant"], None],
    ) -> list[str]:
        """Join, and be in the call until it breaks. Return the nodes to avoid next time."""
        try:
            seat = await api.join(self.room, self.id, self._request(avoid))
        except RequestRefusedError as refused:
            self.trouble = str(refused)
            await asyncio.sleep(REJOIN_EVERY_S)
            return avoid
        self.epoch = seat.epoch
        if (
            self.newest_epoch <= self.epoch
        ):  # an event may be faster than the answer to the join that caused it
            self.moved.clear()
        call = Call(http, seat, self.look, self.tally)
        try:
            await call.open()
            self.seat = seat
            on_seat(self)
            await call.carry(self.moved)
        except CallBrokenError as broken:
            self.trouble = f"{seat.node}: {broken}"
        finally:
            self.seat = None
            await call.close()
        if self.moved.is_set():
            return []
        with suppress(TimeoutError):
            await asyncio.wait_for(self.moved.wait(), REJOIN_EVERY_S)
        return [seat.node]

    def _request(self, avoid: list[str]) -> dict[str, Any]:
        return {
            "session": self.session,
            "probes": [{"region": region, "rtt_ms": [rtt]} for region, rtt in self.probes.items()],
            "exclude_nodes": avoid,
        }


async def _until_moved(moved: asyncio.Event) -> None:
    await moved.wait()
    raise CallBrokenError("an event said that the participant was moved")


async def _until_failed(peer: RTCPeerConnection, name: str) -> None:
    """Wait until the connection fails, then raise CallBrokenError."""
    changed = asyncio.Event()
    peer.on("connectionstatechange", changed.set)
    while peer.connectionState not in ("failed", "closed"):
        changed.clear()
        await changed.wait()
    raise CallBrokenError(f"the {name} connection {peer.connectionState}")


def _prefer(transceiver: RTCRtpTransceiver) -> None:
    capabilities = RTCRtpSender.getCapabilities(transceiver.kind)
    wanted = CODECS[transceiver.kind]
    transceiver.setCodecPreferences(
        [codec for codec in capabilities.codecs if codec.mimeType in wanted]
    )


def _ice_server(server: Mapping[str, Any]) -> RTCIceServer:
    return RTCIceServer(
        urls=server["urls"], username=server.get("username"), credential=server.get("credential")
    )
