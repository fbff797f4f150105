"""What the camera is told: commands of ground stations, checked, carried out and acknowledged."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from siamtrt.boxes import BoxXywh
from siamtrt.errors import BoxError
from siamtrt.service.commands import CommandError
from siamtrt.service.loop import Snapshot, Unit
from siamtrt.service.mavlink_messages import Aim, Messages
from siamtrt.service.mavlink_rates import DEFAULT_INTERVAL_S, StatusStream
from siamtrt.service.updates import Update

POINT_RADIUS = 0.05  # share of the frame's width, for a point without one; QGroundControl draws as much
MOST_PENDING = 8  # orders that wait for a frame
REPEAT_S = 10.0  # an order that is repeated within this was accepted, and the answer was lost
MOST_REMEMBERED = 32  # senders whose last order is kept for that
LONGEST_US = 2**31 - 1  # that an interval can be reported as
LARGEST_ID = 0xFFFF  # of a message, that an interval can be reported for
ONLY_SENSOR = 1  # "target camera id" of this component's one camera; 0 is all, and 7 to 255 are component ids
SETTLE_S = 0.5  # an answer waits so long for the first result after it: a status must not belie what was said
Newest = tuple[Update | None, float]  # the last result, and `time.monotonic()` when it came


class Controls(Protocol):
    """What is asked of the tracking loop, a `TrackingLoop`."""

    def track(self, box_xywh: Sequence[float], unit: Unit = "pixels") -> Future[BoxXywh]: ...

    def drop(self) -> Future[None]: ...

    def snapshot(self) -> Snapshot: ...


@dataclass(frozen=True)
class Order:
    """A command to this camera.

    Attributes:
        sender: (system, component).
        params: seven; any may be NaN or infinite.
        repeated: sent before, as its sender says.
        to_all: to every component or system, so that what does not concern this one is left to others.
    """

    sender: tuple[int, int]
    command: int
    params: tuple[float, ...]
    repeated: bool
    to_all: bool

    def same_as(self, other: Order) -> bool:
        """Whether one is the other once more."""
        pairs = zip(self.params, other.params, strict=True)
        equal = all(one == another or (one != one and another != another) for one, another in pairs)
        return equal and (self.sender, self.command) == (other.sender, other.command)


def order_of(message: Any, system_id: int, component_id: int) -> Order | None:
    """The order in a COMMAND_LONG or COMMAND_INT; None in another message, or for another component."""
    kind = message.get_type()
    if kind not in ("COMMAND_LONG", "COMMAND_INT"):
        return None
    sender = (message.get_srcSystem(), message.get_srcComponent())
    target = (message.target_system, message.target_component)
    if target[0] not in (0, system_id) or target[1] not in (0, component_id) or sender == (system_id, component_id):
        return None
    m = message
    last = (m.param5, m.param6, m.param7) if kind == "COMMAND_LONG" else (float(m.x), float(m.y), m.z)
    repeated = kind == "COMMAND_LONG" and m.confirmation > 0
    return Order(sender, m.command, (m.param1, m.param2, m.param3, m.param4, *last), repeated, 0 in target)


@dataclass
class _Pending:
    order: Order
    future: Future[Any]
    aim: Aim
    done_s: float | None = None  # time.monotonic(), by the thread that carried it out

    def settled(self, newest_s: float) -> bool:
        """Whether it may be answered: it failed, or a result came since, or does not seem to come."""
        if self.done_s is None:
            return False
        return (
            time.monotonic() >= self.done_s + SETTLE_S or newest_s > self.done_s or self.future.exception() is not None
        )


class _Refused(Exception):
    def __init__(self, result: int) -> None:
        super().__init__(result)
        self.result = result


class Orders:
    """Carries orders out; what it returns has to be sent.

    Args:
        dialect: pymavlink's module.
        stream: of statuses, which orders begin and end.
        newest: the last result.
        waken: called, in any thread, when `answers` has something to give.
    """

    def __init__(
        self, dialect: Any, component_id: int, loop: Controls, stream: StatusStream, newest: Callable[[], Newest],
        waken: Callable[[], None],
    ) -> None:  # fmt: skip
        self.messages = Messages(dialect)
        self._dialect, self._component_id, self._loop, self._stream = dialect, component_id, loop, stream
        self._newest, self._waken = newest, waken
        self._aim: Aim = "rectangle"
        self._pending: list[_Pending] = []
        self._accepted: dict[tuple[int, int], tuple[Order, float]] = {}  # each sender's last
        d, m = dialect, self.messages
        self._requested: dict[int, Callable[[], Any]] = {
            d.MAVLINK_MSG_ID_HEARTBEAT: m.heartbeat,
            d.MAVLINK_MSG_ID_CAMERA_INFORMATION: self._information,
            d.MAVLINK_MSG_ID_CAMERA_SETTINGS: m.settings,
            d.MAVLINK_MSG_ID_STORAGE_INFORMATION: m.storage,
            d.MAVLINK_MSG_ID_CAMERA_CAPTURE_STATUS: m.capture_status,
            d.MAVLINK_MSG_ID_CAMERA_TRACKING_IMAGE_STATUS: self.status,
        }
        self._at_once: dict[int, Callable[[Order], list[Any]]] = {
            d.MAV_CMD_REQUEST_MESSAGE: self._request,
            d.MAV_CMD_SET_MESSAGE_INTERVAL: self._set_interval,
            d.MAV_CMD_GET_MESSAGE_INTERVAL: lambda order: [self._interval_of(order.params[0])],
            d.MAV_CMD_REQUEST_CAMERA_INFORMATION: lambda _: [self._information()],
            d.MAV_CMD_REQUEST_CAMERA_SETTINGS: lambda _: [m.settings()],
            d.MAV_CMD_REQUEST_STORAGE_INFORMATION: lambda _: [m.storage()],
            d.MAV_CMD_REQUEST_CAMERA_CAPTURE_STATUS: lambda _: [m.capture_status()],
        }
        self._of_the_loop: dict[int, Callable[[Order], tuple[Future[Any], Aim]]] = {
            d.MAV_CMD_CAMERA_TRACK_RECTANGLE: self._track_rectangle,
            d.MAV_CMD_CAMERA_TRACK_POINT: self._track_point,
            d.MAV_CMD_CAMERA_STOP_TRACKING: self._stop_tracking,
        }

    def status(self) -> Any:
        """CAMERA_TRACKING_IMAGE_STATUS now."""
        update, at_s = self._newest()
        return self.messages.tracking(update, self._aim, time.monotonic() - at_s)

    def due_s(self) -> float:
        """When an answer is to be given though no result came, `time.monotonic()`; infinity for never."""
        done = (pending.done_s for pending in self._pending)
        return min((done_s + SETTLE_S for done_s in done if done_s is not None), default=math.inf)

    def obey(self, order: Order) -> list[Any]:
        """Messages that answer an order; the answer of the tracking loop comes with `answers`."""
        if order.command in self._of_the_loop:
            return self._ask_the_loop(order)
        try:
            replies = self._at_once.get(order.command, self._unknown)(order)
        except _Refused as refused:
            return self._answer(order, refused.result)
        return [*self._answer(order, self._dialect.MAV_RESULT_ACCEPTED), *replies]

    def answers(self) -> list[Any]:
        """Messages that answer orders which the tracking loop has dealt with since."""
        _, newest_s = self._newest()
        settled = [pending.settled(newest_s) for pending in self._pending]
        ready = list(itertools.compress(self._pending, settled))
        self._pending = [pending for pending, is_ready in zip(self._pending, settled, strict=True) if not is_ready]
        return [message for pending in ready for message in self._finish(pending)]

    def _finish(self, pending: _Pending) -> list[Any]:
        result, order = self._result_of(pending.future), pending.order
        if result == self._dialect.MAV_RESULT_ACCEPTED:
            self._aim = pending.aim
            self._accepted[order.sender] = (order, time.monotonic())
            if len(self._accepted) > MOST_REMEMBERED:
                del self._accepted[next(iter(self._accepted))]
        return self._answer(order, result)

    def _answer(self, order: Order, result: int) -> list[Any]:
        d = self._dialect
        if order.to_all and result in (d.MAV_RESULT_UNSUPPORTED, d.MAV_RESULT_DENIED):
            return []
        return [self.messages.acknowledgement(order.command, result, order.sender)]

    def _ask_the_loop(self, order: Order) -> list[Any]:
        d = self._dialect
        if any(order.same_as(pending.order) for pending in self._pending):
            return self._answer(order, d.MAV_RESULT_IN_PROGRESS)
        before, at_s = self._accepted.get(order.sender, (None, 0.0))
        if order.repeated and before and order.same_as(before) and time.monotonic() - at_s < REPEAT_S:
            # Begun anew, it would take what has moved into that place since.
            return self._answer(order, d.MAV_RESULT_ACCEPTED)
        if len(self._pending) >= MOST_PENDING:
            return self._answer(order, d.MAV_RESULT_TEMPORARILY_REJECTED)
        try:
            future, aim = self._of_the_loop[order.command](order)
        except _Refused as refused:
            return self._answer(order, refused.result)
        except CommandError:
            return self._answer(order, d.MAV_RESULT_TEMPORARILY_REJECTED)
        pending = _Pending(order, future, aim)
        self._pending.append(pending)
        future.add_done_callback(lambda _: self._note_done(pending))
        return []

    def _note_done(self, pending: _Pending) -> None:
        pending.done_s = time.monotonic()
        self._waken()

    def _result_of(self, future: Future[Any]) -> int:
        d = self._dialect
        error = future.exception()
        if error is None:
            return d.MAV_RESULT_ACCEPTED
        if isinstance(error, CommandError):
            return d.MAV_RESULT_TEMPORARILY_REJECTED
        return d.MAV_RESULT_DENIED if isinstance(error, BoxError) else d.MAV_RESULT_FAILED

    def _track_rectangle(self, order: Order) -> tuple[Future[Any], Aim]:
        left, top, right, bottom = (self._share(value) for value in order.params[:4])
        self._require_me(order.params[4])
        if left >= right or top >= bottom:
            raise self._denied()
        return self._loop.track((left, top, right - left, bottom - top), unit="share"), "rectangle"

    def _track_point(self, order: Order) -> tuple[Future[Any], Aim]:
        """A square of twice the radius, which counts in the frame's width, around the point."""
        x, y = self._share(order.params[0]), self._share(order.params[1])
        self._require_me(order.params[3])
        update, _ = self._newest()
        if update is None:  # the frame's shape is not known yet
            raise _Refused(self._dialect.MAV_RESULT_TEMPORARILY_REJECTED)
        width, height = update.frame_size
        radius = 0.0 if math.isnan(order.params[2]) else self._share(order.params[2])
        if radius * width < 1:  # 0 stands for one pixel, which is nothing to track
            radius = POINT_RADIUS
        down = radius * width / height
        return self._loop.track((x - radius, y - down, 2 * radius, 2 * down), unit="share"), "point"

    def _stop_tracking(self, order: Order) -> tuple[Future[Any], Aim]:
        self._require_me(order.params[0])
        return self._loop.drop(), "rectangle"

    def _information(self) -> Any:
        update, _ = self._newest()
        return self.messages.information(self._loop.snapshot().model, update.frame_size if update else (0, 0))

    def _request(self, order: Order) -> list[Any]:
        wanted = self._whole(order.params[0])
        if wanted == self._dialect.MAVLINK_MSG_ID_MESSAGE_INTERVAL:
            return [self._interval_of(order.params[1])]
        if wanted not in self._requested:
            raise self._denied()
        return [self._requested[wanted]()]

    def _set_interval(self, order: Order) -> list[Any]:
        interval_us = order.params[1]
        if self._whole(order.params[0]) != self._dialect.MAVLINK_MSG_ID_CAMERA_TRACKING_IMAGE_STATUS:
            raise self._denied()
        if not math.isfinite(interval_us) or (interval_us < 0 and interval_us != -1):
            raise self._denied()
        interval_s = 1e-6 * interval_us or DEFAULT_INTERVAL_S
        self._stream.ask(None if interval_us == -1 else interval_s, time.monotonic())
        return []

    def _interval_of(self, message_id: float) -> Any:
        wanted = self._whole(message_id)
        if wanted == self._dialect.MAVLINK_MSG_ID_HEARTBEAT:
            return self.messages.interval(wanted, 1_000_000)
        if wanted != self._dialect.MAVLINK_MSG_ID_CAMERA_TRACKING_IMAGE_STATUS:
            return self.messages.interval(wanted, 0)
        interval_s = self._stream.interval_s
        return self.messages.interval(wanted, -1 if interval_s is None else min(round(1e6 * interval_s), LONGEST_US))

    def _unknown(self, order: Order) -> list[Any]:
        raise _Refused(self._dialect.MAV_RESULT_UNSUPPORTED)

    def _denied(self) -> _Refused:
        return _Refused(self._dialect.MAV_RESULT_DENIED)

    def _share(self, value: float) -> float:
        if not 0 <= value <= 1:  # nor NaN
            raise self._denied()
        return value

    def _whole(self, value: float) -> int:
        """A message's id."""
        if not 0 <= value <= LARGEST_ID or value != int(value):
            raise self._denied()
        return int(value)

    def _require_me(self, target_id: float) -> None:
        if not math.isnan(target_id) and target_id not in (0, ONLY_SENSOR, self._component_id):
            raise self._denied()
