"""Hosts and ports, as configs give them."""

from __future__ import annotations

from siamtrt.errors import ServiceError

LAST_PORT = 65535


def check_address(what: str, host: str, port: int) -> None:
    """Raise where no socket could be made of an address; names are not looked up.

    Args:
        what: "UDP output", for the error.

    Raises:
        ServiceError: a host that is no name or address, or a port outside 1 to 65535.
    """
    if not (_is_host(host) and 0 < port <= LAST_PORT):
        raise ServiceError(
            f"unusable address of the {what}", received=f"host {host!r}, port {port}",
            expected=f"a host's name or address and a port from 1 to {LAST_PORT}", fix="correct host and port",
        )


def _is_host(host: str) -> bool:
    try:
        return bool(host.encode("idna")) and host.isprintable() and " " not in host
    except UnicodeError:  # an empty or an overlong label, which getaddrinfo refuses with this as well
        return False
