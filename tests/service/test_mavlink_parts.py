"""The parts of the MAVLink camera: addresses, packets found in bytes, rates, configuration."""

from __future__ import annotations

import random
import socket

import numpy as np
import pytest

pytest.importorskip("pymavlink", reason="needs the mavlink extra")
from ground_station import update_of

from siamtrt.errors import ServiceError
from siamtrt.service.mavlink import MavlinkCamera, MavlinkConfig
from siamtrt.service.mavlink_links import MOST_PEERS, Address, address_of, open_link
from siamtrt.service.mavlink_packets import BadPacketError, Codec, message_id, signing_key, split_packets
from siamtrt.service.mavlink_rates import Budget, StatusStream


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("udpout:127.0.0.1:14550", Address("udpout", "127.0.0.1", 14550)),
        ("udpin:0.0.0.0:14540", Address("udpin", "0.0.0.0", 14540)),
        ("tcp:autopilot.local:5760", Address("tcp", "autopilot.local", 5760)),
        ("/dev/ttyTHS1,921600", Address("serial", "/dev/ttyTHS1", 921_600)),
        ("/dev/serial/by-id/usb-x_y-if00", Address("serial", "/dev/serial/by-id/usb-x_y-if00", 57_600)),
    ],
)
def test_addresses(url, address):
    assert address_of(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "", "udpout:", "udpout:host", "udpout:host:0", "udpout:host:65536", "udpout:host:1:2", "udpout:a..b:1",
        "udp:host:14550", "tcp:[::1]:5760", "flight.tlog", "/etc/passwd", "/dev/../etc/passwd", "/dev/ttyTHS1,12345",
        "/dev/ttyTHS1,0", "/tmp/firmware.elf", "csv:/etc/passwd", "wss:host:1", "ttyTHS1,57600", "udpout:host:14550\n",
        "udpin:a b:1",
    ],
)  # fmt: skip
def test_what_pymavlink_would_take_for_a_file_is_refused(url):
    with pytest.raises(ServiceError, match=r"no MAVLink connection|unusable address"):
        MavlinkConfig(url=url)


@pytest.mark.parametrize(
    "wrong",
    [
        {"system_id": 0}, {"system_id": 256}, {"component_id": 1}, {"component_id": 106}, {"orders_per_s": 0.0},
        {"orders_per_s": float("nan")}, {"orders_per_s": float("inf")},
    ],
    ids=str,
)  # fmt: skip
def test_a_config_outside_its_ranges(wrong):
    with pytest.raises(ServiceError, match="no MAVLink camera"):
        MavlinkConfig(**wrong)


def test_what_is_no_serial_device_is_neither_read_nor_written(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"keep")
    for path in (str(secret), "/dev/null"):
        with pytest.raises(OSError, match="not a serial device"):
            open_link(Address("serial", path, 57_600))
    assert secret.read_bytes() == b"keep"


def test_a_key_file_without_a_key(tmp_path):
    (tmp_path / "empty").write_text(" \n")
    for name in ("empty", "none", "."):
        with pytest.raises(ServiceError, match="no MAVLink signing key"):
            signing_key(tmp_path / name)
    with pytest.raises(ServiceError, match="no MAVLink signing key"):
        MavlinkCamera(MavlinkConfig(signing_key_file=str(tmp_path / "none")), None, None)


def _packets(count=60):
    codec = Codec(255, 190, b"k" * 32), Codec(255, 190)
    d = codec[0].dialect
    for number in range(count):
        message = (
            d.MAVLink_heartbeat_message(6, 8, 0, number, 4, 3) if number % 3 else
            d.MAVLink_command_long_message(1, 100, 2005, 0, 0.1, 0.2, 0.3, 0.4, number, 0.0, 7.0)
        )  # fmt: skip
        if number % 7 == 0:
            yield message.pack(codec[1]._mav, force_mavlink1=True)
        else:
            yield codec[number % 2].packet_of(message)


def test_packets_in_a_stream_cut_anywhere_are_those_that_were_sent():
    chance = random.Random(0)
    sent = list(_packets())
    # Garbage without a packet's first byte: with one, the next packet may rightly be lost.
    stream = b"".join(bytes(chance.choices(range(250), k=chance.randrange(4))) + packet for packet in sent)
    found, rest, at = [], b"", 0
    while at < len(stream):
        step = chance.choice((1, 2, 3, 20, 400))
        packets, rest = split_packets(rest + stream[at : at + step])
        found += packets
        at += step
        assert len(rest) < 280
    assert found == sent
    assert rest == b""
    parser = Codec(1, 1).dialect.MAVLink(None)
    parser.robust_parsing = True
    theirs = [message for message in parser.parse_buffer(stream) if message.get_type() != "BAD_DATA"]
    assert [bytes(message.get_msgbuf()) for message in theirs] == sent
    assert [message.get_msgId() for message in theirs] == [message_id(packet) for packet in sent]


def test_one_changed_byte_makes_a_packet_bad():
    codec = Codec(1, 100)
    packet = codec.packet_of(codec.dialect.MAVLink_heartbeat_message(6, 8, 0, 0, 4, 3))
    wanted = frozenset([0])
    assert [message.get_type() for message in codec.messages_in([packet], wanted)] == ["HEARTBEAT"]
    assert list(codec.messages_in([packet], frozenset([76]))) == []
    for at in (2, 3, 4, 5, 6, *range(10, len(packet))):
        changed = packet[:at] + bytes([packet[at] ^ 0x20]) + packet[at + 1 :]
        (bad,) = codec.messages_in([changed], wanted)
        assert isinstance(bad, BadPacketError), at


def test_a_signature_says_the_time(monkeypatch):
    codec = Codec(1, 100, b"k" * 32)
    for now in (1_800_000_000.0, 1_800_003_600.0):  # an hour later: a peer that joins then takes no older ones
        monkeypatch.setattr("siamtrt.service.mavlink_packets.time.time", lambda now=now: now)
        packet = codec.packet_of(codec.dialect.MAVLink_heartbeat_message(6, 8, 0, 0, 4, 3))
        assert int.from_bytes(packet[-12:-6], "little") == int((now - 1_420_070_400) * 1e5)


def test_a_ground_station_that_does_not_listen_yet_is_no_lost_link():
    link = open_link(Address("udpout", "127.0.0.1", _free_port()))
    try:
        for _ in range(3):
            assert link.write(b"x")
            assert link.read() == (b"", None)
    finally:
        link.close()


def test_flags_that_nobody_knows_make_a_packet_bad():
    codec = Codec(1, 100)
    d = codec.dialect
    packet = bytearray(codec.packet_of(d.MAVLink_heartbeat_message(6, 8, 0, 0, 4, 3)))
    packet[2] |= 0x02
    crc = d.x25crc(bytes(packet[1:-2]) + bytes([d.MAVLink_heartbeat_message.crc_extra])).crc
    packet[-2:] = crc.to_bytes(2, "little")
    (bad,) = codec.messages_in([bytes(packet)], frozenset([0]))
    assert "unknown flags 0x2" in str(bad)


def test_statuses_come_at_the_interval_once_a_frame_and_now_and_then_without_frames():
    def told_s(interval_s, frames_s, until_s=4.0):
        stream, newest, told = StatusStream(), None, []
        stream.ask(interval_s, 0.0)
        for now in np.arange(0, until_s, 0.001):
            if frames_s and now >= frames_s[0]:
                newest, frames_s = update_of(), frames_s[1:]
            if now >= stream.due_s(newest):
                stream.sent(newest, now)
                told.append(now)
        return np.array(told)

    assert told_s(None, [1.0, 2.0]).size == 0
    thirty = list(np.arange(0.02, 4, 1 / 30))
    assert len(told_s(1e-6, thirty)) == len(thirty) + 1  # the first one before any frame
    assert np.diff(told_s(0.1, thirty)) == pytest.approx(0.1, abs=0.035)
    assert len(told_s(0.05, thirty)) == pytest.approx(80, abs=3)  # though 0.05 s is no multiple of 1/30
    assert np.diff(told_s(0.1, [0.0])) == pytest.approx(1.0, abs=0.01)  # no frames come
    assert np.diff(told_s(2.0, thirty)) == pytest.approx(2.0, abs=0.035)


def test_a_budget_gives_two_seconds_worth_at_once_and_then_its_rate():
    budget = Budget(10.0, 0.0)
    assert sum(budget.spend(1, 0.0) for _ in range(100)) == 20
    assert budget.lacks_s(1, 0.0) == pytest.approx(0.1)
    assert sum(budget.spend(1, now) for now in np.arange(0.05, 10.05, 0.01)) == pytest.approx(100, abs=1)
    assert sum(budget.spend(1, 1e6) for _ in range(100)) == 20


def test_udpin_forgets_nobody_for_a_crowd():
    link = open_link(Address("udpin", "127.0.0.1", _free_port()))
    try:
        for port in range(1000):
            link.heard(("127.0.0.1", 20_000 + port))
        assert list(link._heard_s) == [("127.0.0.1", 20_000 + port) for port in range(MOST_PEERS)]
    finally:
        link.close()


def _free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
