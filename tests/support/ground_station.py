"""A ground station: pymavlink's own connection, which finds a camera and commands it."""

from __future__ import annotations

import os
import time
from concurrent.futures import Future
from types import SimpleNamespace
from unittest import mock

import numpy as np

from siamtrt.service.updates import Update

TRACKING_STATUS = 275
FRAME = np.zeros((48, 64, 3), np.uint8)
PATIENCE_S = 3.0


class GroundStation:
    """System 255, component 190, as a desktop ground station."""

    def __init__(self, url="udpin:127.0.0.1:0", **options):
        with mock.patch.dict(os.environ, {"MAVLINK20": "1", "MAVLINK_DIALECT": "common"}):
            from pymavlink import mavutil

            self.link = mavutil.mavlink_connection(
                url, dialect="common", source_system=255, source_component=190, **options
            )
            self.dialect = mavutil.mavlink

    @property
    def port(self):
        return self.link.port.getsockname()[1]

    def next(self, kind, timeout_s=PATIENCE_S):
        """The next message of a kind; None without one."""
        return self.link.recv_match(type=kind, blocking=True, timeout=timeout_s)

    def send(self, command, *params, confirmation=0, target=(1, 100)):
        filled = (*params, *[0.0] * (7 - len(params)))
        self.link.mav.command_long_send(*target, command, confirmation, *filled)

    def order(self, command, *params, timeout_s=PATIENCE_S, **options):
        """Send a command; the result of its acknowledgement, None without one."""
        self.send(command, *params, **options)
        return self.result_of(command, timeout_s)

    def result_of(self, command, timeout_s=PATIENCE_S):
        end = time.monotonic() + timeout_s
        while (left := end - time.monotonic()) > 0 and (message := self.next("COMMAND_ACK", left)):
            if message.command == command:
                assert (message.target_system, message.target_component) == (255, 190)
                return message.result
        return None

    def silent(self, kind, timeout_s=0.3):
        """No message of a kind comes any more: what is on its way is let pass first."""
        self.next("HEARTBEAT", 0.1)
        while self.next(kind, 0.02):
            pass
        return self.next(kind, timeout_s) is None

    def close(self):
        self.link.close()


class Asked:
    """In the place of a tracking loop: notes what it is asked; `answer` is an exception, a value or "later"."""

    def __init__(self, answer=None):
        self.answer, self.boxes, self.drops, self.futures = answer, [], 0, []

    def track(self, box_xywh, unit="pixels"):
        assert unit == "share"
        self.boxes.append(box_xywh)
        return self._future()

    def drop(self):
        self.drops += 1
        return self._future()

    def snapshot(self):
        return SimpleNamespace(model="siamrpn_test")

    def _future(self):
        future = Future()
        self.futures.append(future)
        if isinstance(self.answer, Exception):
            future.set_exception(self.answer)
        elif self.answer != "later":
            future.set_result(self.answer)
        return future


def update_of(status="locked", box_xywh=(16.0, 12.0, 8.0, 6.0), number=0, frame_size=(64, 48)):
    return Update(number, time.time(), frame_size, status, None if status == "idle" else box_xywh)
