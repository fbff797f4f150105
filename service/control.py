"""Control messages: JSON from anybody, read strictly."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from siamtrt.errors import SiamtrtError
from siamtrt.service.loop import Unit

LARGEST_NUMBER = 1e6  # pixels; beyond any frame
LONGEST_NAME = 64  # of a bundle
SHOWN = 120  # characters of what was received that an error repeats


class ControlError(SiamtrtError):
    """A control message that says nothing the service can do."""


@dataclass(frozen=True)
class Track:
    """Take a target, in the place of the present one; "start" and "reinit" are both this."""

    box_xywh: tuple[float, float, float, float]
    unit: Unit = "pixels"


@dataclass(frozen=True)
class Stop:
    """Forget the target."""


@dataclass(frozen=True)
class Switch:
    """Go on with the bundle that the config has under a name."""

    bundle: str


Message = Track | Stop | Switch


def parse_message(body: bytes) -> Message:
    """A control message from the JSON it was sent as.

    Raises:
        ControlError: no JSON object, an unknown command, a field that is missing, unknown, given twice, or of another
            type or range.
    """
    fields = _fields(body)
    command = fields.pop("command", None)
    reader = _READERS.get(command) if isinstance(command, str) else None
    if reader is None:
        raise _bad("unknown command", command, " or ".join(_READERS))
    message = reader(fields)
    if fields:
        raise _bad("unknown field", ", ".join(fields), f"the fields of {command}")
    return message


def _fields(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _bad("not JSON", body[: 2 * SHOWN], f"a JSON object ({str(error)[:SHOWN]})") from error
    if not isinstance(fields, dict):
        raise _bad("not a command", fields, "a JSON object")
    return fields


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field twice")
    return fields


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _track(fields: dict[str, Any]) -> Track:
    box, unit = fields.pop("box", None), fields.pop("unit", "pixels")
    if unit not in ("pixels", "share") or not isinstance(unit, str):
        raise _bad("unknown unit", unit, "pixels or share")
    expected = "box: [x, y, width, height], the top left corner first"
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        raise _bad("no usable box", box, expected)
    x, y, width, height = map(float, box)
    if min(width, height) <= 0:
        raise _bad("empty box", box, expected)
    return Track((x, y, width, height), unit)  # type: ignore[arg-type]


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= LARGEST_NUMBER  # neither NaN nor infinity are


def _stop(fields: dict[str, Any]) -> Stop:
    return Stop()


def _switch(fields: dict[str, Any]) -> Switch:
    bundle = fields.pop("bundle", None)
    if not isinstance(bundle, str) or not 0 < len(bundle) <= LONGEST_NAME:
        raise _bad("no bundle named", bundle, "bundle: the name of one of the config's bundles")
    return Switch(bundle)


_READERS: dict[str, Callable[[dict[str, Any]], Message]] = {
    "start": _track, "reinit": _track, "stop": _stop, "switch": _switch,
}  # fmt: skip


def _bad(what: str, received: object, expected: str) -> ControlError:
    return ControlError(
        what, received=_shown(received), expected=expected, fix='e.g. {"command": "start", "box": [10, 20, 64, 48]}'
    )


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except RecursionError:
        text = f"a deeply nested {type(value).__name__}"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
