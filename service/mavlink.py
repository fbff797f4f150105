"""A MAVLink camera that tracks: ground stations and autopilots choose the target and are told where it is.

The protocol is the camera protocol of https://mavlink.io/en/services/camera.html, in MAVLink 2 and the common dialect.
"""

from __future__ import annotations

import math
import select
import socket
import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from siamtrt.errors import ServiceError
from siamtrt.runtime.capture_rules import back_off
from siamtrt.service.faults import Faults
from siamtrt.service.mavlink_links import MOST_BYTES, Link, Peer, address_of, open_link
from siamtrt.service.mavlink_orders import Controls, Newest, Order, Orders, order_of
from siamtrt.service.mavlink_packets import BadPacketError, Codec, signing_key, split_packets
from siamtrt.service.mavlink_rates import Budget, StatusStream
from siamtrt.service.updates import Listener, Update

HEARTBEAT_S = 1.0
MOST_BYTES_S = 1 << 20  # read, ten times what a fast serial line brings; what exceeds it waits or is lost
LEAST_COST = 256  # bytes that a read counts as, however little came
CAMERA_IDS = range(100, 106)  # MAV_COMP_ID_CAMERA and its five followers: ground stations look nowhere else


@dataclass(frozen=True)
class MavlinkConfig:
    """How the camera is reached, and who it is.

    Attributes:
        url: `udpout:HOST:PORT` speaks with that address alone; `udpin:HOST:PORT` with whoever speaks to it, so that
            only a trusted network may reach it, or with a signing key; `tcp:HOST:PORT`; `/dev/NAME,BAUD`.
        system_id: the vehicle's, 1 to 255: QGroundControl looks for a vehicle's cameras under its id.
        component_id: 100 to 105.
        signing_key_file: holds a passphrase. Packets are then signed (MAVLink 2), and others' refused that are not.
        orders_per_s: commands obeyed on average, and twice as many at once; more are dropped and counted.

    Raises:
        ServiceError: another url, or a number outside its range.
    """

    url: str = "udpout:127.0.0.1:14550"
    system_id: int = 1
    component_id: int = 100
    signing_key_file: str | None = None
    orders_per_s: float = 50.0

    def __post_init__(self) -> None:
        address_of(self.url)
        rules = {
            f"system_id {self.system_id}": 1 <= self.system_id <= 255,
            f"component_id {self.component_id}": self.component_id in CAMERA_IDS,
            f"orders_per_s {self.orders_per_s}": 1 <= self.orders_per_s < float("inf"),
        }
        for received, kept in rules.items():
            if not kept:
                raise ServiceError(
                    "no MAVLink camera", received=received,
                    expected="a system_id from 1 to 255, a component_id from 100 to 105, orders_per_s of 1 or more",
                    fix="give the vehicle's system id, and 100 for its first camera",
                )  # fmt: skip


class MavlinkCamera(Listener):
    """Listens to the tracking loop and speaks MAVLink in a thread of its own; a link that is lost is opened again.

    Faults: `mavlink_lost`, the link; `mavlink_unsent`, no room for a packet; `mavlink_bad_packet`; `mavlink_rejected`,
    a command beyond `orders_per_s`; `mavlink_failed`, a mistake in this code.

    Args:
        loop: obeys the commands.

    Raises:
        ServiceError: no signing key in its file.
        ModuleNotFoundError: pymavlink is not installed.
    """

    name = "mavlink"

    def __init__(self, config: MavlinkConfig, loop: Controls, faults: Faults) -> None:
        key = signing_key(Path(config.signing_key_file)) if config.signing_key_file else None
        self._config, self._faults = config, faults
        self._codec = Codec(config.system_id, config.component_id, key)
        self._newest: tuple[Update, float] | None = None
        self._stream = StatusStream()
        dialect = self._codec.dialect
        self._orders = Orders(dialect, config.component_id, loop, self._stream, self._last, self._waken)
        self._read_ids = frozenset(
            (dialect.MAVLINK_MSG_ID_HEARTBEAT, dialect.MAVLINK_MSG_ID_COMMAND_LONG, dialect.MAVLINK_MSG_ID_COMMAND_INT)
        )
        self._heartbeat_s = now = time.monotonic()
        self._bytes, self._order_budget = Budget(MOST_BYTES_S, now), Budget(config.orders_per_s, now)
        self._rest = b""
        self._closing = threading.Event()
        self._alarm, self._bell = socket.socketpair()
        for end in (self._alarm, self._bell):
            end.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="siamtrt mavlink", daemon=True)
        self._thread.start()

    def take(self, update: Update, frame: np.ndarray) -> None:
        """See `Listener`."""
        self._newest = (update, time.monotonic())
        self._waken()

    def close(self) -> None:
        """See `Listener`."""
        self._closing.set()
        self._waken()

    def ended(self, timeout_s: float) -> bool:
        """See `Listener`."""
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._faults("output_hangs", "did not end in time", self.name)
            return False
        return True

    def _last(self) -> Newest:
        return self._newest or (None, -math.inf)

    def _waken(self) -> None:
        with suppress(OSError):  # no room: it rings already; closed: nobody sleeps any more
            self._bell.send(b"\0")

    def _run(self) -> None:
        pauses = back_off(1.0, 10.0)
        address = address_of(self._config.url)
        with closing(self._alarm), closing(self._bell):
            while not self._closing.is_set():
                self._rest = b""
                heard = False
                try:
                    with closing(open_link(address)) as link:
                        while not self._closing.is_set():
                            heard = self._turn(link) or heard
                        self._send(link, self._orders.answers())
                except OSError as error:
                    self._faults("mavlink_lost", f"{self._config.url}: {error}")
                except Exception as error:  # the camera has to live
                    self._faults("mavlink_failed", f"{type(error).__name__}: {error}")
                if heard:
                    pauses = back_off(1.0, 10.0)
                self._closing.wait(next(pauses))

    def _turn(self, link: Link) -> bool:
        """Send what is due, wait for the next event and deal with it; whether anything was read."""
        self._send(link, [*self._orders.answers(), *self._due()])
        now = time.monotonic()
        due_s = min(self._heartbeat_s, self._stream.due_s(self._last()[0]), self._orders.due_s())
        timeout_s = max(due_s - now, 0.0)
        full_s = self._bytes.lacks_s(MOST_BYTES, now)
        ends = [self._alarm.fileno(), *([] if full_s else [link.fileno()])]
        ready = _readable(ends, min(timeout_s, full_s) if full_s else timeout_s)
        if ends[0] in ready:
            with suppress(BlockingIOError):
                while self._alarm.recv(1024):
                    pass
        if len(ends) == 1 or ends[1] not in ready:
            return False
        data, peer = link.read()
        self._bytes.spend(max(len(data), LEAST_COST), time.monotonic())
        self._hear(link, data, peer)
        return bool(data)

    def _due(self) -> list[Any]:
        messages, now = [], time.monotonic()
        if now >= self._heartbeat_s:
            self._heartbeat_s = now + HEARTBEAT_S
            messages.append(self._orders.messages.heartbeat())
        newest = self._last()[0]
        if now >= self._stream.due_s(newest):
            messages.append(self._orders.status())
            self._stream.sent(newest, now)
        return messages

    def _hear(self, link: Link, data: bytes, peer: Peer) -> None:
        packets, rest = split_packets(self._rest + data)
        self._rest = b"" if link.whole_packets else rest
        if link.whole_packets and data and not packets:
            self._faults("mavlink_bad_packet", f"{len(data)} bytes that are no packet")
        for message in self._codec.messages_in(packets, self._read_ids):
            if isinstance(message, BadPacketError):
                self._faults("mavlink_bad_packet", message)
                continue
            link.heard(peer)
            order = order_of(message, self._config.system_id, self._config.component_id)
            if order is None:
                continue
            if self._order_budget.spend(1, time.monotonic()):
                self._send(link, self._obey(order))
            else:
                self._faults("mavlink_rejected", f"more than {self._config.orders_per_s:g} commands a second")

    def _obey(self, order: Order) -> list[Any]:
        try:
            return self._orders.obey(order)
        except Exception as error:  # one command must not cost the others their link
            self._faults("mavlink_failed", f"command {order.command}: {type(error).__name__}: {error}")
            return []

    def _send(self, link: Link, messages: list[Any]) -> None:
        for message in messages:
            if not link.write(self._codec.packet_of(message)):
                self._faults("mavlink_unsent", f"{message.get_type()}: no room on {self._config.url}")


def _readable(ends: list[int], timeout_s: float) -> set[int]:
    """Those of the file descriptors that have something to read, or an error to tell."""
    poll = select.poll()
    for end in ends:
        poll.register(end, select.POLLIN)
    return {end for end, _ in poll.poll(1e3 * timeout_s)}
