"""What carries MAVLink: UDP, TCP and serial devices, opened from the texts pymavlink takes."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from dataclasses import dataclass
from typing import Literal, Protocol

from siamtrt.errors import ServiceError
from siamtrt.service.addresses import check_address

MOST_BYTES = 4096  # of one read; a packet has up to 280
MOST_PEERS = 8  # of a udpin link: whoever forges addresses gets no more copies than this
PEER_S = 30.0  # a peer that was silent for longer is forgotten
UNANSWERED_MS = 10_000  # a TCP peer that acknowledges nothing for so long is gone
DEFAULT_BAUD = 57_600  # of telemetry ports
NETWORK_URL = re.compile(r"(udpout|udpin|tcp):([A-Za-z0-9._-]+):([0-9]{1,5})")
DEVICE = re.compile(r"(/dev/[A-Za-z0-9._/-]+)(?:,([0-9]{1,8}))?")
Peer = tuple[str, int] | None  # host and port, where a link has more than one


@dataclass(frozen=True)
class Address:
    """Where a link leads.

    Attributes:
        place: host, or path of a serial device.
        number: port, or bits a second.
    """

    kind: Literal["udpout", "udpin", "tcp", "serial"]
    place: str
    number: int


class Link(Protocol):
    """A way to the other end, which never blocks. Everything raises OSError where the link is lost.

    Attributes:
        whole_packets: a read is whole packets, not a piece of a stream.
    """

    whole_packets: bool

    def fileno(self) -> int:
        """To wait for something to read."""
        ...

    def read(self) -> tuple[bytes, Peer]:
        """What came, empty where nothing did, and from whom."""
        ...

    def heard(self, peer: Peer) -> None:
        """What `peer` sent was MAVLink."""
        ...

    def write(self, data: bytes) -> bool:
        """Send a packet; False where there was no room, and it is lost."""
        ...

    def close(self) -> None: ...


def address_of(url: str) -> Address:
    """Parse `udpout:HOST:PORT`, `udpin:HOST:PORT`, `tcp:HOST:PORT` or `/dev/NAME,BAUD`.

    Nothing else is taken: pymavlink itself would read a file, or run one, that a text names.

    Raises:
        ServiceError: another text, no host, no port from 1 to 65535, or a baud rate the system does not have.
    """
    if network := NETWORK_URL.fullmatch(url):
        check_address("MAVLink link", network[2], int(network[3]))
        return Address(network[1], network[2], int(network[3]))  # type: ignore[arg-type]
    if (device := DEVICE.fullmatch(url)) and ".." not in url:
        baud = int(device[2] or DEFAULT_BAUD)
        if _speed_of(baud) is not None:
            return Address("serial", device[1], baud)
    raise ServiceError(
        "no MAVLink connection", received=repr(url),
        expected="udpout:HOST:PORT, udpin:HOST:PORT, tcp:HOST:PORT or a serial /dev/NAME,BAUD of a usual rate",
        fix="write udpout:192.168.1.10:14550 for a ground station, or /dev/ttyTHS1,57600 for an autopilot",
    )


def open_link(address: Address) -> Link:
    """Open a link.

    Raises:
        OSError: no such device, name or network; all may come back.
    """
    if address.kind == "serial":
        return SerialLink(address.place, address.number)
    kinds: dict[str, type[UdpOut | UdpIn | TcpLink]] = {"udpout": UdpOut, "udpin": UdpIn, "tcp": TcpLink}
    kind = kinds[address.kind]
    # An IPv4 address, as pymavlink's; a name is looked up anew at every attempt.
    place = socket.getaddrinfo(address.place, address.number, socket.AF_INET, socket.SOCK_STREAM)[0][4]
    port = socket.socket(socket.AF_INET, kind.socket_kind)
    try:
        port.setblocking(False)
        return kind(port, place)
    except OSError:
        port.close()
        raise


class _SocketLink:
    whole_packets = True
    socket_kind = socket.SOCK_DGRAM

    def __init__(self, port: socket.socket) -> None:
        self._port = port

    def fileno(self) -> int:
        return self._port.fileno()

    def heard(self, peer: Peer) -> None:
        """See `Link`."""

    def close(self) -> None:
        self._port.close()


class UdpOut(_SocketLink):
    """Datagrams to one address, and from no other."""

    def __init__(self, port: socket.socket, place: tuple) -> None:
        super().__init__(port)
        port.connect(place)

    def read(self) -> tuple[bytes, Peer]:
        """See `Link`."""
        try:
            return self._port.recv(MOST_BYTES), None
        except (BlockingIOError, ConnectionRefusedError):  # refused: nobody listens there yet
            return b"", None

    def write(self, data: bytes) -> bool:
        """See `Link`."""
        with contextlib.suppress(ConnectionRefusedError):
            return _sent(self._port, data)
        return True


class UdpIn(_SocketLink):
    """Datagrams from anybody; answers and everything else go to whoever was heard in the last 30 s, 8 at most."""

    def __init__(self, port: socket.socket, place: tuple) -> None:
        super().__init__(port)
        port.bind(place)
        self._heard_s: dict[Peer, float] = {}

    def read(self) -> tuple[bytes, Peer]:
        """See `Link`."""
        try:
            return self._port.recvfrom(MOST_BYTES)
        except BlockingIOError:
            return b"", None

    def heard(self, peer: Peer) -> None:
        """See `Link`."""
        now = time.monotonic()
        self._heard_s = {one: at_s for one, at_s in self._heard_s.items() if now - at_s < PEER_S}
        if peer in self._heard_s or len(self._heard_s) < MOST_PEERS:
            self._heard_s[peer] = now

    def write(self, data: bytes) -> bool:
        """See `Link`."""
        now = time.monotonic()
        peers = [peer for peer, at_s in self._heard_s.items() if peer and now - at_s < PEER_S]
        sent = [self._sent_to(peer, data) for peer in peers]
        return all(sent)

    def _sent_to(self, peer: tuple[str, int], data: bytes) -> bool:
        try:
            self._port.sendto(data, peer)
        except OSError:  # one peer's network is not the others'
            return False
        return True


class TcpLink(_SocketLink):
    """A connection to a TCP server. It is still being made when this returns; a failure shows in `read`."""

    whole_packets = False
    socket_kind = socket.SOCK_STREAM

    def __init__(self, port: socket.socket, place: tuple) -> None:
        super().__init__(port)
        port.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        port.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNANSWERED_MS)
        port.connect_ex(place)

    def read(self) -> tuple[bytes, Peer]:
        """See `Link`."""
        try:
            data = self._port.recv(MOST_BYTES)
        except BlockingIOError:
            return b"", None
        if not data:
            raise ConnectionError("the other end closed the connection")
        return data, None

    def write(self, data: bytes) -> bool:
        """See `Link`."""
        return _sent(self._port, data)


class SerialLink:
    """A serial device, 8 bits, no parity, no flow control."""

    whole_packets = False

    def __init__(self, path: str, baud: int) -> None:
        self._device = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            _make_raw(self._device, baud)
        except OSError:
            os.close(self._device)
            raise

    def fileno(self) -> int:
        return self._device

    def heard(self, peer: Peer) -> None:
        """See `Link`."""

    def read(self) -> tuple[bytes, Peer]:
        """See `Link`."""
        try:
            data = os.read(self._device, MOST_BYTES)
        except BlockingIOError:
            return b"", None
        if not data:
            raise ConnectionError("the serial device is gone")
        return data, None

    def write(self, data: bytes) -> bool:
        """See `Link`."""
        try:
            return os.write(self._device, data) == len(data)
        except BlockingIOError:
            return False

    def close(self) -> None:
        os.close(self._device)


def _sent(port: socket.socket, data: bytes) -> bool:
    try:
        return port.send(data) == len(data)
    except BlockingIOError:
        return False


def _speed_of(baud: int) -> int | None:
    import termios  # of Unix alone

    return getattr(termios, f"B{baud}", None) if baud else None


def _make_raw(device: int, baud: int) -> None:
    """Bytes as they come, at that speed; what is no serial device is refused and not written to."""
    import termios
    import tty

    if not os.isatty(device):
        raise OSError("not a serial device")
    try:
        tty.setraw(device)
        attributes = termios.tcgetattr(device)
        attributes[2] = (attributes[2] | termios.CLOCAL | termios.CREAD) & ~(termios.CRTSCTS | termios.CSTOPB)
        attributes[4] = attributes[5] = _speed_of(baud)
        termios.tcsetattr(device, termios.TCSANOW, attributes)
    except termios.error as error:
        raise OSError(*error.args) from error
