"""The MAVLink camera as a ground station sees it: a real pymavlink peer over loopback, and a real tracking loop."""

from __future__ import annotations

import hashlib
import math
import os
import socket
import threading
import time
from collections import deque

import cv2
import numpy as np
import pytest

pytest.importorskip("pymavlink", reason="needs the mavlink extra")
from ground_station import FRAME, TRACKING_STATUS, Asked, GroundStation, update_of
from service_updates import wait_for

from siamtrt.boxes import iou
from siamtrt.errors import BoxError
from siamtrt.runtime.live import open_feed
from siamtrt.runtime.tracker import Tracker
from siamtrt.service import mavlink, mavlink_orders
from siamtrt.service.commands import CommandError
from siamtrt.service.faults import Faults
from siamtrt.service.loop import TrackingLoop
from siamtrt.service.mavlink import MavlinkCamera, MavlinkConfig

POINT, RECTANGLE, STOP = 2004, 2005, 2010
GET_INTERVAL, SET_INTERVAL, REQUEST = 510, 511, 512
ACCEPTED, TEMPORARILY_REJECTED, DENIED, UNSUPPORTED, FAILED, IN_PROGRESS = range(6)
SIZE, SIDE = (320, 240), 48
AROUND = (0.4, 0.4, 0.6, 0.6)


class Circling:
    """A textured square that circles over a textured background, 40 frames a second, until it is closed."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self._background = cv2.resize(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8), SIZE)
        self._square = cv2.resize(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8), (SIDE, SIDE))
        self.boxes = deque([(226, 96, SIDE, SIDE)], maxlen=20)  # a busy machine tells of a frame half a second late
        self.ended, self.paused = threading.Event(), threading.Event()

    def __iter__(self):
        angle = 0.0
        while not self.ended.wait(1 / 40):
            if self.paused.is_set():
                continue
            angle += 0.025
            x, y = round(136 + 90 * math.cos(angle)), round(96 + 70 * math.sin(angle))
            frame = self._background.copy()
            frame[y : y + SIDE, x : x + SIDE] = self._square
            self.boxes.append((x, y, SIDE, SIDE))
            yield frame

    @property
    def corners(self):
        """Of the target now, as shares."""
        x, y, w, h = self.boxes[-1]
        return x / SIZE[0], y / SIZE[1], (x + w) / SIZE[0], (y + h) / SIZE[1]


@pytest.fixture(scope="module")
def flight():
    """A scene, a ground station that watches it, and everything between."""
    scene, faults, station = Circling(), Faults(), GroundStation()
    loop = TrackingLoop(Tracker.load(threads=1), open_feed(iter(scene), realtime=True), faults)
    loop.listen(MavlinkCamera(MavlinkConfig(f"udpout:127.0.0.1:{station.port}"), loop, faults))
    thread = threading.Thread(target=loop.run)
    thread.start()
    assert station.next("HEARTBEAT")
    assert wait_for(lambda: (last := loop.snapshot().last) and last.number > 1)  # a point needs the frame's shape
    station.scene = scene
    yield station
    loop.stop()
    thread.join(5)
    scene.ended.set()
    station.close()
    assert not thread.is_alive()
    assert faults.counts() == {}


@pytest.fixture
def aloft(monkeypatch):
    """Makes cameras without a tracker, each with its ground station, and ends them."""
    monkeypatch.setattr(mavlink_orders, "SETTLE_S", 0.005)  # no results come
    made = []

    def make(asked=None, url=None, station=None, **config):
        station = station or GroundStation()
        faults, asked = Faults(), asked or Asked()
        camera = MavlinkCamera(MavlinkConfig(url or f"udpout:127.0.0.1:{station.port}", **config), asked, faults)
        made.append((camera, station))
        if url is None:
            station.first = station.next("HEARTBEAT")
            assert station.first
        return station, camera, asked, faults

    yield make
    for camera, _ in made:
        camera.close()
    for camera, station in made:
        assert camera.ended(1.0)
        station.close()


def test_discovered_by_its_heartbeats_once_a_second(aloft):
    station, *_ = aloft()
    beat = station.first
    began = time.monotonic()
    assert (beat.get_srcSystem(), beat.get_srcComponent()) == (1, 100)
    assert (beat.type, beat.autopilot) == (station.dialect.MAV_TYPE_CAMERA, station.dialect.MAV_AUTOPILOT_INVALID)
    assert beat.get_msgbuf()[0] == 0xFD  # MAVLink 2
    assert station.next("HEARTBEAT")
    assert time.monotonic() - began == pytest.approx(1.0, abs=0.25)


def test_follows_a_rectangle_at_the_asked_interval_and_stops(flight):
    assert flight.order(SET_INTERVAL, TRACKING_STATUS, 100_000) == ACCEPTED
    assert flight.order(RECTANGLE, *flight.scene.corners) == ACCEPTED
    first = np.array(flight.scene.boxes[-1])
    found, told = [], []
    began = time.monotonic()
    while time.monotonic() - began < 2.0:
        status = flight.next("CAMERA_TRACKING_IMAGE_STATUS")
        truth = np.array(flight.scene.boxes)
        assert (status.tracking_status, status.tracking_mode, status.target_data) == (1, 2, 4)
        assert all(map(math.isnan, (status.point_x, status.point_y, status.radius)))
        corners = np.array((status.rec_top_x, status.rec_top_y, status.rec_bottom_x, status.rec_bottom_y))
        assert ((corners >= 0) & (corners <= 1)).all()
        box = np.concatenate([corners[:2], corners[2:] - corners[:2]]) * (*SIZE, *SIZE)
        found.append((iou(box, truth).max(), float(iou(box, first))))
        told.append(time.monotonic())
    followed, stayed = np.array(found).T
    assert np.median(followed) > 0.6
    assert stayed[-1] < 0.2  # the target has left its first place
    assert np.median(np.diff(told)) == pytest.approx(0.1, abs=0.035)
    assert flight.order(STOP) == ACCEPTED
    assert _is_idle(_asked(flight))
    assert flight.order(SET_INTERVAL, TRACKING_STATUS, -1) == ACCEPTED
    assert flight.silent("CAMERA_TRACKING_IMAGE_STATUS")


@pytest.mark.parametrize(("radius", "told"), [(0.08, 0.08), (0.0, 0.05), (math.nan, 0.05)])
def test_follows_a_point(flight, radius, told):
    left, top, right, bottom = flight.scene.corners
    assert flight.order(POINT, (left + right) / 2, (top + bottom) / 2, radius) == ACCEPTED
    status = _asked(flight)
    assert (status.tracking_status, status.tracking_mode) == (1, 1)  # at once
    centres = (np.array(flight.scene.boxes)[:, :2] + SIDE / 2) / SIZE
    assert np.abs(centres - (status.point_x, status.point_y)).max(axis=1).min() < 0.05
    assert status.radius == pytest.approx(told, rel=0.6)  # the tracker fits it to the target, of radius 0.075
    assert all(map(math.isnan, (status.rec_top_x, status.rec_top_y, status.rec_bottom_x, status.rec_bottom_y)))
    assert flight.order(STOP) == ACCEPTED


def test_a_status_without_frames_says_that_the_place_is_not_known(flight):
    assert flight.order(RECTANGLE, *flight.scene.corners) == ACCEPTED
    flight.scene.paused.set()
    end = time.monotonic() + 5
    while (stale := _asked(flight)).tracking_status == 1:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert (stale.tracking_status, stale.tracking_mode, stale.target_data) == (2, 2, 0)
    assert math.isnan(stale.rec_top_x)
    flight.scene.paused.clear()
    assert flight.order(STOP) == ACCEPTED


def _asked(station):
    station.send(REQUEST, TRACKING_STATUS)
    return station.next("CAMERA_TRACKING_IMAGE_STATUS")


def _is_idle(status):
    numbers = (status.point_x, status.point_y, status.radius, status.rec_top_x, status.rec_bottom_y)
    return (status.tracking_status, status.tracking_mode, status.target_data) == (0, 0, 0) and all(
        map(math.isnan, numbers)
    )


@pytest.mark.parametrize("command", [(REQUEST, 259), (521, 1)], ids=["request message", "its predecessor"])
def test_says_what_it_is_and_claims_nothing_it_lacks(aloft, command):
    station, camera, *_ = aloft()
    camera.take(update_of(), FRAME)
    assert station.order(*command) == ACCEPTED
    information = station.next("CAMERA_INFORMATION")
    assert information.flags == 512 + 1024  # a point, a rectangle
    assert bytes(information.model_name).rstrip(b"\0") == b"siamrpn_test"
    assert (information.resolution_h, information.resolution_v) == (64, 48)
    assert information.cam_definition_uri == ""
    assert all(map(math.isnan, (information.focal_length, information.sensor_size_h, information.sensor_size_v)))


@pytest.mark.parametrize(
    ("commands", "kind"),
    [
        ([(REQUEST, 260), (522, 1)], "CAMERA_SETTINGS"),
        ([(REQUEST, 261), (525, 0, 1)], "STORAGE_INFORMATION"),
        ([(REQUEST, 262), (527, 1)], "CAMERA_CAPTURE_STATUS"),
        ([(REQUEST, 0)], "HEARTBEAT"),
        ([(REQUEST, 244, TRACKING_STATUS), (GET_INTERVAL, TRACKING_STATUS)], "MESSAGE_INTERVAL"),
    ],
)
def test_answers_what_a_ground_station_asks_of_every_camera(aloft, commands, kind):
    station, *_ = aloft()
    for command in commands:
        assert station.order(*command) == ACCEPTED
        assert station.next(kind, 0.5)


def test_tells_the_interval_of_its_statuses(aloft):
    station, *_ = aloft()
    told = []
    for interval_us in (None, 250_000, 0, 1e12, -1):
        if interval_us is not None:
            assert station.order(SET_INTERVAL, TRACKING_STATUS, interval_us) == ACCEPTED
        station.send(GET_INTERVAL, TRACKING_STATUS)
        told.append(station.next("MESSAGE_INTERVAL").interval_us)
    assert told == [-1, 250_000, 200_000, 2**31 - 1, -1]


def test_an_interval_of_a_microsecond_gives_a_status_a_frame(aloft):
    station, camera, *_ = aloft()
    camera.take(update_of(), FRAME)
    assert station.order(SET_INTERVAL, TRACKING_STATUS, 1) == ACCEPTED
    assert station.next("CAMERA_TRACKING_IMAGE_STATUS")
    clock, told = time.pthread_getcpuclockid(camera._thread.ident), 0
    began = time.clock_gettime(clock)
    for number in range(20):
        camera.take(update_of(number=number + 1), FRAME)
        told += station.next("CAMERA_TRACKING_IMAGE_STATUS", 1.0) is not None
    assert told == 20
    assert station.next("CAMERA_TRACKING_IMAGE_STATUS", 0.3) is None
    assert time.clock_gettime(clock) - began < 0.15  # of half a second: it does not spin


@pytest.mark.parametrize(
    ("status", "told"),
    [("locked", (1, 2, 4)), ("uncertain", (1, 2, 4)), ("lost", (2, 2, 0)), ("invalid", (2, 2, 0)), ("idle", (0, 0, 0))],
)
def test_tells_the_status_and_coordinates_only_of_what_is_seen(aloft, status, told):
    station, camera, *_ = aloft()
    camera.take(update_of(status, (-8.0, 36.0, 32.0, 24.0)), FRAME)
    message = _asked(station)
    corners = message.rec_top_x, message.rec_top_y, message.rec_bottom_x, message.rec_bottom_y
    assert (message.tracking_status, message.tracking_mode, message.target_data) == told
    assert corners == (0.0, 0.75, 0.375, 1.0) if told[2] else all(map(math.isnan, corners))


@pytest.mark.parametrize("as_int", [False, True])
def test_the_box_is_what_the_command_says(aloft, as_int):
    station, camera, asked, _ = aloft()
    camera.take(update_of(frame_size=(64, 32)), FRAME)
    if as_int:
        for command, params in ((RECTANGLE, (0.25, 0.5, 0.5, 1.0)), (POINT, (0.5, 0.25, 0.125, 0.0))):
            station.link.mav.command_int_send(1, 100, 0, command, 0, 0, *params, 0, 0, 0.0)
            assert station.result_of(command) == ACCEPTED
    else:
        assert station.order(RECTANGLE, 0.25, 0.5, 0.5, 1.0) == ACCEPTED
        assert station.order(POINT, 0.5, 0.25, 0.125) == ACCEPTED
    assert asked.boxes == [(0.25, 0.5, 0.25, 0.5), (0.375, 0.0, 0.25, 0.5)]  # a square in pixels: 16 x 16


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("result", "command"),
    [
        *((DENIED, (RECTANGLE, *corners)) for corners in (
            (0.5, 0.5, 0.5, 0.7), (0.6, 0.2, 0.5, 0.7), (0.1, 0.1, 1.1, 0.5), (-0.1, 0.1, 0.2, 0.5),
            (NAN, 0.1, 0.2, 0.5), (0.1, 0.1, INF, 0.5), (0.1, 0.1, 3e38, 0.5), (*AROUND, 7.0), (*AROUND, INF),
        )),
        *((DENIED, (POINT, *point)) for point in (
            (NAN, 0.5, 0.1), (0.5, 1.5, 0.1), (0.5, 0.5, -0.1), (0.5, 0.5, INF), (0.5, 0.5, 0.1, 101.0),
        )),
        (DENIED, (STOP, 101.0)),
        *((DENIED, (REQUEST, wanted)) for wanted in (30.0, 259.5, NAN, -1.0, 1e30, INF)),
        *((DENIED, (SET_INTERVAL, *asked)) for asked in (
            (30.0, 1e5), (275.0, NAN), (275.0, INF), (275.0, -2.0), (275.0, -INF), (NAN, 1e5),
        )),
        (DENIED, (GET_INTERVAL, 1e9)),
        *((UNSUPPORTED, (command,)) for command in (0, 400, 2000, 2500, 42_424, 65_535)),
        *((ACCEPTED, (RECTANGLE, *AROUND, camera)) for camera in (0.0, NAN, 1.0, 100.0)),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said(flight, result, command):
    flight.scene.paused.clear()
    assert flight.order(*command) == result


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (BoxError("box", received=1, expected=2, fix="3"), DENIED),
        (CommandError("no frame", received=1, expected=2, fix="3"), TEMPORARILY_REJECTED),
        (RuntimeError("driver"), FAILED),
    ],
)
def test_says_why_the_loop_did_not(aloft, error, result):
    station, *_ = aloft(Asked(error))
    assert station.order(RECTANGLE, *AROUND) == result


def test_a_rectangle_without_area_is_not_asked_for(aloft):
    station, _, asked, _ = aloft()
    for corners in ((0.5, 0.5, 0.5, 0.7), (0.5, 0.5, 0.7, 0.5), (0.6, 0.5, 0.5, 0.7)):
        assert station.order(RECTANGLE, *corners) == DENIED
    assert asked.boxes == []


def test_a_point_before_the_first_frame_is_for_later(aloft):
    station, *_ = aloft()
    assert station.order(POINT, 0.5, 0.5, 0.1) == TEMPORARILY_REJECTED


def test_obeys_what_is_for_all_and_leaves_to_others_what_it_cannot_do(aloft):
    station, _, asked, _ = aloft()
    for target in ((0, 0), (1, 0), (0, 100)):
        assert station.order(RECTANGLE, *AROUND, target=target) == ACCEPTED
    station.send(400, 1, target=(1, 0))
    station.send(REQUEST, 148, target=(1, 0))
    station.send(STOP)
    assert station.next("COMMAND_ACK").command == STOP
    assert len(asked.boxes) == 3


def test_what_is_for_others_is_not_obeyed(aloft):
    station, _, asked, _ = aloft()
    for target in ((2, 100), (1, 101), (2, 0), (0, 1)):
        station.send(RECTANGLE, *AROUND, target=target)
    station.link.mav.srcSystem, station.link.mav.srcComponent = 1, 100
    station.send(RECTANGLE, *AROUND)  # its own words, come back
    station.link.mav.srcSystem, station.link.mav.srcComponent = 255, 190
    assert station.order(STOP) == ACCEPTED
    assert asked.boxes == []


def test_a_repeated_command_begins_nothing_twice(aloft):
    station, _, asked, _ = aloft(Asked("later"))
    station.send(RECTANGLE, *AROUND)
    assert station.order(RECTANGLE, *AROUND, confirmation=1) == IN_PROGRESS
    asked.futures[0].set_result(None)
    assert station.result_of(RECTANGLE, 0.4) == ACCEPTED  # at once, not with the next heartbeat
    assert station.order(RECTANGLE, *AROUND, confirmation=2) == ACCEPTED  # the answer was lost
    assert len(asked.boxes) == 1
    asked.answer = None
    assert station.order(RECTANGLE, *AROUND) == ACCEPTED  # meant anew
    assert station.order(RECTANGLE, 0.1, 0.1, 0.3, 0.3, confirmation=1) == ACCEPTED  # its first sending was lost
    assert station.order(STOP) == ACCEPTED
    assert station.order(RECTANGLE, 0.1, 0.1, 0.3, 0.3, confirmation=1) == ACCEPTED  # and again
    assert len(asked.boxes) == 4
    asked.answer = CommandError("no frame", received=1, expected=2, fix="3")
    assert station.order(STOP) == TEMPORARILY_REJECTED
    asked.answer = None
    assert station.order(STOP, confirmation=1) == ACCEPTED
    assert asked.drops == 3


def test_an_answer_waits_for_the_first_result_after_it(aloft, monkeypatch):
    station, camera, asked, _ = aloft()
    monkeypatch.setattr(mavlink_orders, "SETTLE_S", 0.4)
    camera.take(update_of("idle"), FRAME)
    assert station.order(RECTANGLE, *AROUND, timeout_s=0.1) is None
    camera.take(update_of(), FRAME)
    assert station.result_of(RECTANGLE, 0.2) == ACCEPTED
    began = time.monotonic()
    assert station.order(STOP) == ACCEPTED  # though no frames come any more
    assert 0.3 < time.monotonic() - began < 0.9
    asked.answer = BoxError("box", received=1, expected=2, fix="3")
    assert station.order(RECTANGLE, *AROUND, timeout_s=0.2) == DENIED


def test_a_loop_that_hangs_costs_few_answers(aloft):
    station, _, asked, _ = aloft(Asked("later"))
    for number in range(8):
        station.send(RECTANGLE, 0.1, 0.1, 0.5 + number / 100, 0.5)
    assert station.order(RECTANGLE, *AROUND) == TEMPORARILY_REJECTED
    assert len(asked.boxes) == 8
    assert station.order(REQUEST, 0) == ACCEPTED


def test_a_flood_of_commands_is_cut_off_and_the_camera_goes_on(aloft):
    station, _, asked, faults = aloft(orders_per_s=10)
    for _ in range(200):
        station.send(RECTANGLE, *AROUND)
    end = time.monotonic() + 3
    while station.order(STOP, timeout_s=0.1) != ACCEPTED:
        assert time.monotonic() < end
    assert 150 <= faults.counts()["mavlink_rejected"] <= 190
    assert 1 <= len(asked.boxes) <= 50


def test_a_flood_of_bytes_is_read_slowly_and_the_camera_goes_on(aloft, monkeypatch):
    monkeypatch.setattr(mavlink, "MOST_BYTES_S", 20_000)
    station, _, _, faults = aloft()
    for number in range(200):
        station.link.write(bytes(300))
        if number % 50 == 49:  # the system keeps no more
            time.sleep(0.03)
    assert 100 <= faults.counts()["mavlink_bad_packet"] <= 165  # 40,000 bytes at once, and 20,000 a second
    assert station.next("HEARTBEAT")
    end = time.monotonic() + 3
    while station.order(STOP, timeout_s=0.2) != ACCEPTED:
        assert time.monotonic() < end


def test_a_mistake_costs_one_command_and_not_the_link(aloft, monkeypatch):
    station, _, asked, faults = aloft()
    monkeypatch.setattr(asked, "snapshot", lambda: 1 / 0)
    assert station.order(REQUEST, 259, timeout_s=0.2) is None
    assert station.order(STOP) == ACCEPTED
    assert faults.counts() == {"mavlink_failed": 1}


def test_signed_by_the_passphrase_and_deaf_to_others(aloft, tmp_path):
    (tmp_path / "key").write_text("correct horse\n")
    station, _, asked, faults = aloft(signing_key_file=str(tmp_path / "key"))
    assert station.first.get_header().incompat_flags == 1
    assert station.order(RECTANGLE, *AROUND, timeout_s=0.2) is None
    key = hashlib.sha256(b"correct horse").digest()
    station.link.setup_signing(hashlib.sha256(b"battery staple").digest())
    station.link.mav.signing.timestamp += 10**9  # three hours ahead: must not shut the true one out
    assert station.order(RECTANGLE, *AROUND, timeout_s=0.2) is None
    assert asked.boxes == []
    assert faults.counts()["mavlink_bad_packet"] == 2
    station.link.setup_signing(key, link_id=0)
    assert station.order(RECTANGLE, *AROUND) == ACCEPTED
    replayed = station.link.mav.command_long_encode(1, 100, STOP, 0, *[0.0] * 7).pack(station.link.mav)
    for _ in range(2):
        station.link.write(replayed)
    assert station.order(RECTANGLE, 0.1, 0.1, 0.3, 0.3) == ACCEPTED
    assert asked.drops == 1


def test_listens_to_anybody_on_udpin_and_answers_them(aloft):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    stations = [GroundStation(f"udpout:127.0.0.1:{port}") for _ in range(2)]
    aloft(url=f"udpin:127.0.0.1:{port}", station=stations[0])
    end = time.monotonic() + 3
    for station in stations:
        while station.order(STOP, timeout_s=0.1) != ACCEPTED:
            assert time.monotonic() < end
    assert stations[0].next("COMMAND_ACK")  # everybody hears everything
    stations[1].close()


def test_a_tcp_connection_that_is_closed_is_made_again(aloft):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(3)
        station, _, asked, faults = aloft(url=f"tcp:127.0.0.1:{server.getsockname()[1]}")
        with server.accept()[0] as link:
            link.settimeout(3)
            assert link.recv(1000)[:1] == b"\xfd"
            link.sendall(b"\xfd\x90")  # half a packet, for the next connection to be confused by
        ended = time.monotonic()
        with server.accept()[0] as link:
            assert time.monotonic() - ended == pytest.approx(1.05, abs=0.3)  # the first pause, from the end itself
            link.settimeout(3)
            assert link.recv(1000)[:1] == b"\xfd"
            mav = station.dialect.MAVLink(None, srcSystem=255, srcComponent=190)
            link.sendall(station.dialect.MAVLink_command_long_message(1, 100, STOP, 0, *[0.0] * 7).pack(mav))
            mav.robust_parsing = True
            assert "COMMAND_ACK" in _kinds_until(lambda: link.recv(1000), mav, "COMMAND_ACK")
            assert asked.drops == 1
            assert faults.counts()["mavlink_lost"] == 1


def test_a_serial_device_that_is_unplugged(aloft):
    line, device = os.openpty()
    station, _, asked, faults = aloft(url=f"{os.ttyname(device)},57600")
    mav = station.dialect.MAVLink(None, srcSystem=255, srcComponent=190)
    mav.robust_parsing = True
    order = station.dialect.MAVLink_command_long_message(1, 100, RECTANGLE, 0, *AROUND, 0, 0, 0).pack(mav)
    assert _kinds_until(lambda: os.read(line, 300), mav, "HEARTBEAT") == {"HEARTBEAT"}
    for part in (b"boot log \xff\xfe", b"\x00" * 30, order[:7], order[7:]):
        os.write(line, part)
        time.sleep(0.02)
    assert "COMMAND_ACK" in _kinds_until(lambda: os.read(line, 300), mav, "COMMAND_ACK")
    assert np.allclose(asked.boxes, [(0.4, 0.4, 0.2, 0.2)])
    os.close(device)
    os.close(line)
    end = time.monotonic() + 3
    while not faults.counts()["mavlink_lost"]:
        assert time.monotonic() < end
        time.sleep(0.02)


def _kinds_until(read, mav, wanted):
    kinds, end = set(), time.monotonic() + 3
    while wanted not in kinds and time.monotonic() < end:
        kinds |= {message.get_type() for message in mav.parse_buffer(read()) or []}
    return kinds


def test_a_camera_whose_device_is_missing_waits_and_ends_at_once(aloft):
    *_, faults = aloft(url="/dev/siamtrt-none,57600")
    time.sleep(0.1)
    assert faults.counts() == {"mavlink_lost": 1}
