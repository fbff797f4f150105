"""Hostile packets against the MAVLink camera, while a real tracker runs behind it."""

from __future__ import annotations

import math
import os
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from siamtrt.runtime.live import open_feed
from siamtrt.runtime.tracker import Tracker
from siamtrt.service.faults import Faults
from siamtrt.service.loop import TrackingLoop
from siamtrt.service.mavlink import MavlinkCamera, MavlinkConfig
from siamtrt.service.mavlink_packets import Codec, split_packets

BATCH = 50  # packets between two questions whether the camera lives
PATIENCE_S = 5.0  # for the answer
ASK_AGAIN_S = 0.3
WARM_UP = 0.2  # of the packets, after which memory must not grow
ASKER = 254  # the system that asks; no hostile packet pretends to be it
LONGEST = 280  # bytes of a packet: so many zeros end whatever a stream's garbage began
ODD_NUMBERS = (
    0.0, -0.0, 0.25, 0.5, 0.75, 1.0, -1.0, 1e-30, 1e30, 3.4e38, -3.4e38, 275.0, 259.0, 244.0, 65_535.0, 2**24 + 1.0,
    1e9, math.nan, math.inf, -math.inf,
)  # fmt: skip
KNOWN_COMMANDS = (510, 511, 512, 521, 522, 525, 527, 2004, 2005, 2010)


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        packets: sent.
        questions, answers: asked in between, and how many were answered.
        results: MAV_RESULT of the commands that were acknowledged, and how many.
        faults: counted by the camera and the loop.
        grown_bytes: of the process's memory, after a warm-up.
        ended: loop and camera ended when they were told to.
    """

    packets: int
    questions: int
    answers: int
    results: Counter[int]
    faults: Counter[str]
    grown_bytes: int
    ended: bool
    seconds: float

    @property
    def survived(self) -> bool:
        """Whether every question was answered, no command failed in the camera's own code, and all ended."""
        return self.answers == self.questions and self.ended and not self.faults["mavlink_failed"]


def fuzz_mavlink(count: int, seed: int) -> Outcome:
    """Send hostile packets, half of them over UDP and half over TCP, to a camera whose loop tracks.

    They are random bytes, changed packets, packets of every message with random content, and commands with odd
    numbers, all from `seed`.
    """
    faults, began_s = Faults(), time.monotonic()
    chance = random.Random(seed)
    hostile = Hostile(chance, Codec(255, 190).dialect)
    results: Counter[int] = Counter()
    questions, answers, ended, grown = 0, 0, True, 0
    with _tracking(faults) as loop:
        for wire in (UdpWire(), TcpWire()):
            with closing(wire):
                camera = MavlinkCamera(MavlinkConfig(wire.url, orders_per_s=1e6), loop, faults)
                loop.listen(camera)
                wire.meet()
                before = None
                for sent in range(0, count // 2, BATCH):
                    if before is None and sent >= WARM_UP * count / 2:
                        before = _memory()
                    wire.send([hostile.packet() for _ in range(min(BATCH, count // 2 - sent))])
                    questions += 1
                    if not wire.ask(results):
                        break
                    answers += 1
                grown += _memory() - (before or _memory())
                camera.close()
                ended = camera.ended(PATIENCE_S) and ended
    return Outcome(
        count // 2 * 2, questions, answers, results, faults.counts(), grown, ended, time.monotonic() - began_s
    )  # fmt: skip


@contextmanager
def _tracking(faults: Faults) -> Iterator[TrackingLoop]:
    """A loop with the default tracker on noise; it has ended afterwards."""
    still = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    ended = threading.Event()

    def frames() -> Iterator[np.ndarray]:
        while not ended.wait(0.02):
            yield still

    loop = TrackingLoop(Tracker.load(threads=1), open_feed(frames(), realtime=True), faults)
    thread = threading.Thread(target=loop.run, name="fuzzed loop")
    thread.start()
    try:
        yield loop
    finally:
        loop.stop()
        thread.join()
        ended.set()


class Hostile:
    """Makes packets that nobody should send.

    Args:
        chance: decides everything.
        dialect: pymavlink's module.
    """

    def __init__(self, chance: random.Random, dialect: Any) -> None:
        self._chance, self._dialect = chance, dialect
        self._kinds: list[Callable[[], bytes]] = [
            self._noise, self._changed, self._any_message, self._command, self._command, self._several
        ]

    def packet(self) -> bytes:
        """One, or what passes for one."""
        return self._chance.choice(self._kinds)()

    def _noise(self) -> bytes:
        head = self._chance.choice((b"", b"\xfd", b"\xfe", b"\xfd\xff\x01"))
        return head + self._chance.randbytes(self._chance.choice((0, 1, 2, 11, 40, 300, 2000)))

    def _changed(self) -> bytes:
        packet = bytearray(self._chance.choice((self._command, self._any_message))())
        for _ in range(self._chance.randint(1, 4)):
            at = self._chance.randrange(len(packet))
            change = self._chance.randrange(4)
            if change == 0:
                packet[at] ^= 1 << self._chance.randrange(8)
            elif change == 1:
                packet[at : at + self._chance.randint(1, 20)] = b""
            elif change == 2:
                packet[at:at] = self._chance.randbytes(self._chance.randint(1, 20))
            else:
                packet[min(at % 10, len(packet) - 1)] = self._chance.randrange(256)
            if not packet:
                return b""
        return bytes(packet)

    def _any_message(self) -> bytes:
        """Sound, of any kind, with random content of any length."""
        kind = self._chance.choice(list(self._dialect.mavlink_map.values()))
        size = self._chance.choice((kind.unpacker.size, self._chance.randint(0, 255)))
        return self._framed(kind.id, self._chance.randbytes(min(size, 255)))

    def _command(self) -> bytes:
        """Sound, for this camera more often than not, with odd numbers."""
        command = self._chance.choice((*KNOWN_COMMANDS, self._chance.randrange(65_536)))
        target = self._chance.choice(((1, 100), (1, 100), (1, 100), (0, 0), (1, 0), (7, 100)))
        numbers = [self._chance.choice((*ODD_NUMBERS, self._chance.random())) for _ in range(7)]
        if command == 2005 and self._chance.random() < 0.5:
            numbers[:5] = *sorted(numbers[:2]), *sorted((self._chance.random(), self._chance.random())), 0.0
        if self._chance.random() < 0.7:
            tail = struct.pack("<HBBB", command, *target, self._chance.randrange(256))
            return self._framed(self._dialect.MAVLINK_MSG_ID_COMMAND_LONG, struct.pack("<7f", *numbers) + tail)
        places = [self._chance.choice((0, 1, 100, 2**31 - 1, -(2**31))) for _ in range(2)]
        head = struct.pack("<4f2if", *numbers[:4], *places, numbers[6])
        tail = struct.pack("<HBBBBB", command, *target, *self._chance.randbytes(3))
        return self._framed(self._dialect.MAVLINK_MSG_ID_COMMAND_INT, head + tail)

    def _several(self) -> bytes:
        return b"".join(self._command() for _ in range(self._chance.randint(2, 8)))

    def _framed(self, message_id: int, payload: bytes) -> bytes:
        """A packet with a right checksum, of version 1 where that can be."""
        system, component, number = self._chance.randrange(ASKER), self._chance.randrange(256), 0
        if message_id < 256 and self._chance.random() < 0.2:
            head = struct.pack("<BBBBBB", 0xFE, len(payload), number, system, component, message_id)
        else:
            flags = self._chance.choice((0, 0, 0, 0, 0, 0, 0, 2, 255))
            middle = (len(payload), flags, 0, number, system, component)
            head = struct.pack("<7BHB", 0xFD, *middle, message_id & 0xFFFF, message_id >> 16)
        checked = head[1:] + payload + bytes([self._dialect.mavlink_map[message_id].crc_extra])
        return head + payload + struct.pack("<H", self._dialect.x25crc(checked).crc)


class _Wire:
    """One end of a link, which sends packets and asks whether the camera at the other end lives."""

    url: str

    def __init__(self) -> None:
        self._codec = Codec(ASKER, 190)
        self._rest = b""
        self._port: socket.socket | None = None

    def meet(self) -> None:
        """Wait for the camera's first word."""
        raise NotImplementedError

    def send(self, packets: list[bytes]) -> None:
        """Send them one after the other."""
        for packet in packets:
            self._put(packet)

    def ask(self, results: Counter[int]) -> bool:
        """Ask the interval of the statuses; whether that was answered. Other answers on the way go into `results`."""
        d = self._codec.dialect
        question = d.MAVLink_command_long_message(1, 100, d.MAV_CMD_GET_MESSAGE_INTERVAL, 0, 275, 0, 0, 0, 0, 0, 0)
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            self._put(self._between + self._codec.packet_of(question))
            while data := self._get():  # until nothing comes: so many answers at once may have crowded out this one
                packets, self._rest = split_packets(self._rest + data)
                for message in self._codec.messages_in(packets, frozenset((d.MAVLINK_MSG_ID_COMMAND_ACK,))):
                    if message.target_system == ASKER:
                        return True
                    results[message.result] += 1
        return False

    _between = b""

    def _put(self, data: bytes) -> None:
        assert self._port
        self._port.sendall(data)

    def _get(self) -> bytes:
        assert self._port
        try:
            return self._port.recv(65_536)
        except TimeoutError:
            return b""

    def close(self) -> None:
        if self._port:
            self._port.close()


class UdpWire(_Wire):
    """Datagrams to a camera that knows this address."""

    def __init__(self) -> None:
        super().__init__()
        self._port = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._port.bind(("127.0.0.1", 0))
        self.url = f"udpout:127.0.0.1:{self._port.getsockname()[1]}"

    def meet(self) -> None:
        """See `_Wire`."""
        assert self._port
        self._port.settimeout(PATIENCE_S)
        self._port.connect(self._port.recvfrom(300)[1])
        self._port.settimeout(ASK_AGAIN_S)


class TcpWire(_Wire):
    """A server that a camera connects to."""

    _between = bytes(LONGEST)

    def __init__(self) -> None:
        super().__init__()
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(PATIENCE_S)
        self.url = f"tcp:127.0.0.1:{self._server.getsockname()[1]}"

    def meet(self) -> None:
        """See `_Wire`."""
        self._port = self._server.accept()[0]
        self._port.settimeout(ASK_AGAIN_S)

    def close(self) -> None:
        super().close()
        self._server.close()


def _memory() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
