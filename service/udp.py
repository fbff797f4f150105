"""Results as UDP datagrams, one JSON object each."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from siamtrt.errors import ServiceError
from siamtrt.service.addresses import check_address
from siamtrt.service.reopening import Reopening
from siamtrt.service.updates import Update

SEND_S = 1.0  # a network interface that takes nothing for so long has failed


@dataclass(frozen=True)
class UdpConfig:
    """Where datagrams go.

    Attributes:
        host: name or address; a broadcast or multicast address reaches all of the local network. Of a name that has
            both kinds of address the IPv4 one is taken.
        port: 1 to 65535.
    """

    host: str
    port: int

    def __post_init__(self) -> None:
        check_address("UDP output", self.host, self.port)


class UdpOutput:
    """Sends one datagram a result, some 170 bytes, which no network splits.

    Raises:
        ServiceError: there is no such host. A network that is down is tried again as long as results come.
    """

    def __init__(self, config: UdpConfig) -> None:
        self.name = f"udp {config.host}:{config.port}"
        self._config = config
        self._socket = Reopening(self._open)
        try:
            with self._socket.use():
                pass
        except socket.gaierror as error:
            if error.errno != socket.EAI_AGAIN:  # that one is a name server that does not answer yet
                raise ServiceError(
                    "the UDP output's host has no address", received=f"{config.host} ({error.strerror})",
                    expected="a name that resolves, or an address", fix="correct the host",
                ) from error
        except OSError:  # the first result says so again
            pass

    def send(self, update: Update) -> None:
        """Send a datagram.

        Raises:
            ConnectionRefusedError: nobody listened to an earlier one; this one was sent.
            OSError: it was not sent.
        """
        datagram = update.encoded()
        with self._socket.use() as link:
            refused = _refused(link, datagram)
            if refused:
                _refused(link, datagram)
        if refused:
            raise ConnectionRefusedError("nobody listens there")

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _open(self) -> socket.socket:
        found = socket.getaddrinfo(self._config.host, self._config.port, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
        link = socket.socket(family, kind, protocol)
        try:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            link.settimeout(SEND_S)
            link.connect(address)  # so that it hears of datagrams that nobody took
        except OSError:
            link.close()
            raise
        return link


def _refused(link: socket.socket, datagram: bytes) -> bool:
    """Send; True where an earlier datagram's refusal was told instead, and nothing was sent."""
    try:
        link.send(datagram)
    except ConnectionRefusedError:
        return True
    return False
