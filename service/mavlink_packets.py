"""MAVLink packets: found in bytes that anybody may have sent, checked, signed, read and written."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from siamtrt.errors import ServiceError

VERSION_1, VERSION_2 = 0xFE, 0xFD  # a packet's first byte
FIRST_BYTE = re.compile(b"[\xfd\xfe]")
SIGNED = 0x01  # of the flags without which version 2 cannot be understood
SIGNATURE_BYTES, DIGEST_BYTES = 13, 6
SIGNING_EPOCH_S = 1_420_070_400  # 2015-01-01, from which a signature's time counts 10 microseconds
LONGEST_KEY_FILE = 4096


class BadPacketError(Exception):
    """Bytes that look like a packet and are none: a wrong checksum, an unknown flag, no valid signature."""


def split_packets(data: bytes) -> tuple[list[bytes], bytes]:
    """Find packets by their first byte and length.

    Returns:
        The packets, unchecked, and the last bytes where they may be the beginning of another, at most 279.
    """
    packets: list[bytes] = []
    at = 0
    while first := FIRST_BYTE.search(data, at):
        at = first.start()
        length = _length(data[at : at + 3])
        if at + length > len(data):
            return packets, data[at:]
        packets.append(data[at : at + length])
        at += length
    return packets, b""


def _length(head: bytes) -> int:
    """Bytes of the packet that begins with these 3, or at least so many where there are fewer than 3."""
    if head[0] == VERSION_1:
        return 8 + (head[1] if len(head) > 1 else 0)
    signed = len(head) > 2 and head[2] & SIGNED
    return 12 + (head[1] if len(head) > 1 else 0) + (SIGNATURE_BYTES if signed else 0)


def message_id(packet: bytes) -> int:
    """Which message a packet from `split_packets` holds."""
    return packet[5] if packet[0] == VERSION_1 else int.from_bytes(packet[7:10], "little")


def signing_key(path: Path) -> bytes:
    """The key from a file that holds a passphrase: its SHA-256, as MAVProxy's.

    Raises:
        ServiceError: the file cannot be read or is empty.
    """
    try:
        with path.open("rb") as file:
            passphrase = file.read(LONGEST_KEY_FILE).strip()
    except OSError as error:
        raise _no_key(f"{path} ({error.strerror})") from error
    if not passphrase:
        raise _no_key(f"{path}, which is empty")
    return hashlib.sha256(passphrase).digest()


def _no_key(received: str) -> ServiceError:
    return ServiceError(
        "no MAVLink signing key", received=received, expected="a file with the ground station's passphrase",
        fix="write the passphrase into the file, or leave signing_key_file away",
    )  # fmt: skip


class Codec:
    """Reads and writes the packets of one component, with pymavlink's common dialect.

    Args:
        key: of 32 bytes; everything is then signed, and what is not signed with it is refused.

    Attributes:
        dialect: pymavlink's module of messages and constants.
    """

    def __init__(self, system_id: int, component_id: int, key: bytes | None = None) -> None:
        from pymavlink.dialects.v20 import common

        self.dialect = common
        self._key = key
        self._mav = common.MAVLink(None, srcSystem=system_id, srcComponent=component_id)
        self._mav.signing.secret_key = key
        self._mav.signing.sign_outgoing = key is not None

    def packet_of(self, message: Any) -> bytes:
        """A message as MAVLink 2."""
        self._set_time()
        packet = message.pack(self._mav)
        self._mav.seq = (self._mav.seq + 1) % 256
        return packet

    def messages_in(self, packets: list[bytes], wanted: frozenset[int]) -> Iterator[Any]:
        """The messages of these kinds; an exception takes the place of those that are not sound."""
        for packet in packets:
            if message_id(packet) in wanted:
                try:
                    yield self._message_of(packet)
                except BadPacketError as error:
                    yield error

    def _message_of(self, packet: bytes) -> Any:
        if packet[0] == VERSION_2 and packet[2] & ~SIGNED:
            raise BadPacketError(f"unknown flags {packet[2]:#x}")
        if self._key is not None:
            # pymavlink notes a packet's time before it checks its signature, so that one forged packet from the
            # future would shut everybody out.
            self._require_signature(packet, self._key)
        self._set_time()
        try:
            return self._mav.decode(bytearray(packet))
        except Exception as error:  # the parser's word for "unsound" is not always its own exception
            raise BadPacketError(f"{type(error).__name__}: {error}") from error

    @staticmethod
    def _require_signature(packet: bytes, key: bytes) -> None:
        signed = packet[0] == VERSION_2 and packet[2] & SIGNED
        digest = hashlib.sha256(key + packet[:-DIGEST_BYTES]).digest()[:DIGEST_BYTES]
        if not signed or not hmac.compare_digest(digest, packet[-DIGEST_BYTES:]):
            raise BadPacketError("no valid signature")

    def _set_time(self) -> None:
        """Signatures say the time; pymavlink only counts on from where it began."""
        now = int(max(time.time() - SIGNING_EPOCH_S, 0.0) * 1e5)
        self._mav.signing.timestamp = max(self._mav.signing.timestamp, now)
