"""What the camera says: heartbeats, what it is and can do, and where the target is."""

from __future__ import annotations

import math
import time
from typing import Any, Literal

from siamtrt import __version__
from siamtrt.boxes import BoxXywh
from siamtrt.service.updates import Update

VENDOR = "siamtrt"
NAME_BYTES = 32
STALE_S = 1.0  # a result older than this says nothing about where the target is
SEEN = ("locked", "uncertain")  # the statuses in which the box is where the target is
Aim = Literal["point", "rectangle"]


class Messages:
    """Composes messages of the dialect.

    Args:
        dialect: pymavlink's module.
    """

    def __init__(self, dialect: Any) -> None:
        self._dialect = dialect
        self._started_s = time.monotonic()

    def heartbeat(self) -> Any:
        """HEARTBEAT of a camera."""
        d = self._dialect
        return d.MAVLink_heartbeat_message(d.MAV_TYPE_CAMERA, d.MAV_AUTOPILOT_INVALID, 0, 0, d.MAV_STATE_ACTIVE, 3)

    def information(self, model: str, frame_size: tuple[int, int]) -> Any:
        """CAMERA_INFORMATION: tracks a point or a rectangle, and does nothing else; sizes are 0 while unknown."""
        d = self._dialect
        flags = d.CAMERA_CAP_FLAGS_HAS_TRACKING_POINT | d.CAMERA_CAP_FLAGS_HAS_TRACKING_RECTANGLE
        width, height = (min(side, 0xFFFF) for side in frame_size)
        return d.MAVLink_camera_information_message(
            time_boot_ms=self._uptime_ms(), vendor_name=_name(VENDOR), model_name=_name(model),
            firmware_version=_firmware_version(), focal_length=math.nan, sensor_size_h=math.nan,
            sensor_size_v=math.nan, resolution_h=width, resolution_v=height, lens_id=0, flags=flags,
            cam_definition_version=0, cam_definition_uri=b"",
        )  # fmt: skip

    def settings(self) -> Any:
        """CAMERA_SETTINGS: video; zoom and focus are not known."""
        d = self._dialect
        return d.MAVLink_camera_settings_message(self._uptime_ms(), d.CAMERA_MODE_VIDEO, math.nan, math.nan)

    def capture_status(self) -> Any:
        """CAMERA_CAPTURE_STATUS: nothing is recorded on a ground station's behalf."""
        return self._dialect.MAVLink_camera_capture_status_message(self._uptime_ms(), 0, 0, 0.0, 0, 0.0)

    def storage(self) -> Any:
        """STORAGE_INFORMATION: none."""
        d = self._dialect
        return d.MAVLink_storage_information_message(
            self._uptime_ms(), storage_id=1, storage_count=0, status=d.STORAGE_STATUS_NOT_SUPPORTED,
            total_capacity=0.0, used_capacity=0.0, available_capacity=0.0, read_speed=0.0, write_speed=0.0,
        )  # fmt: skip

    def interval(self, message_id: int, interval_us: int) -> Any:
        """MESSAGE_INTERVAL: -1 for a message that is not sent, 0 for one there is not."""
        return self._dialect.MAVLink_message_interval_message(message_id, interval_us)

    def acknowledgement(self, command: int, result: int, sender: tuple[int, int]) -> Any:
        """COMMAND_ACK to the (system, component) that gave the command."""
        return self._dialect.MAVLink_command_ack_message(
            command, result, target_system=sender[0], target_component=sender[1]
        )

    def tracking(self, update: Update | None, aim: Aim, age_s: float) -> Any:
        """CAMERA_TRACKING_IMAGE_STATUS.

        IDLE without a target, ACTIVE where it is seen; ERROR, without coordinates, where it is lost, the tracker
        failed, or the last frame is more than a second old.
        """
        d = self._dialect
        status, mode, data = d.CAMERA_TRACKING_STATUS_FLAGS_IDLE, d.CAMERA_TRACKING_MODE_NONE, 0
        point, corners = (math.nan,) * 3, (math.nan,) * 4
        if update is not None and update.box_xywh is not None:
            seen = update.status in SEEN and age_s < STALE_S
            status = d.CAMERA_TRACKING_STATUS_FLAGS_ACTIVE if seen else d.CAMERA_TRACKING_STATUS_FLAGS_ERROR
            mode = d.CAMERA_TRACKING_MODE_POINT if aim == "point" else d.CAMERA_TRACKING_MODE_RECTANGLE
            if seen:
                data = d.CAMERA_TRACKING_TARGET_DATA_IN_STATUS
                if aim == "point":
                    point = _point_of(update.box_xywh, update.frame_size)
                else:
                    corners = _corners_of(update.box_xywh, update.frame_size)
        return d.MAVLink_camera_tracking_image_status_message(status, mode, data, *point, *corners)

    def _uptime_ms(self) -> int:
        return int(1e3 * (time.monotonic() - self._started_s)) & 0xFFFF_FFFF


def _corners_of(box_xywh: BoxXywh, frame_size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the part inside the frame, in shares of the frame's sides."""
    (x, y, w, h), (width, height) = box_xywh, frame_size
    return _share(x / width), _share(y / height), _share((x + w) / width), _share((y + h) / height)


def _point_of(box_xywh: BoxXywh, frame_size: tuple[int, int]) -> tuple[float, float, float]:
    """Centre in shares of the frame's sides, and half the box's width in shares of the frame's width."""
    (x, y, w, h), (width, height) = box_xywh, frame_size
    return _share((x + w / 2) / width), _share((y + h / 2) / height), _share(w / 2 / width)


def _share(value: float) -> float:
    """From 0 to 1; NaN where it is not finite."""
    return min(max(value, 0.0), 1.0) if math.isfinite(value) else math.nan


def _name(text: str) -> list[int]:
    """A name as the protocol's 32 bytes, ended by at least one 0."""
    return list(text.encode("ascii", "replace")[: NAME_BYTES - 1].ljust(NAME_BYTES, b"\0"))


def _firmware_version() -> int:
    """Major, minor and patch as the lowest three bytes."""
    numbers = [int(part) for part in __version__.split(".")[:3] if part.isdecimal()]
    return sum((number & 0xFF) << 8 * place for place, number in enumerate(numbers))
