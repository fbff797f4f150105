"""Regions as VOT's result files write them: a rectangle, a polygon, or a code.

Source: Kristan et al., "A novel performance evaluation methodology for single-target trackers", TPAMI 2016, section 4
(a tracker is initialised again five frames after a failure), and the format of the VOT toolkit's trajectories: one
line a frame, `x,y,w,h`, or `x1,y1,...,xn,yn` with at least three corners, or one of the codes below.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

Region = tuple[float, ...]  # the numbers of a line

SKIPPED, INITIALISED, FAILED = 0, 1, 2
TRACKED = -1  # in `Trajectory.codes`: the line is a rectangle or a polygon
CODES = {SKIPPED: "skipped", INITIALISED: "initialised", FAILED: "failed"}
FEWEST_NUMBERS = 6  # of a polygon
LARGEST = 1e9  # pixels; single precision, in which overlaps are computed, holds no fractions far below it


class RegionTextError(ValueError):
    """A line that is no region, or a line where it may not be; the message says which and what was expected."""


def parse_region(line: str) -> Region:
    """The numbers of one line.

    Raises:
        RegionTextError: not numbers, not finite, beyond `LARGEST`, an unknown code, or a count that is no region's.
    """
    try:
        region = tuple(float(part) for part in line.split(","))
    except ValueError:
        raise RegionTextError(f"{line[:60]!r}, which is not numbers separated by commas") from None
    if not all(abs(value) <= LARGEST for value in region):  # nor is NaN
        raise RegionTextError(f"{line[:60]!r}, which is not finite pixels")
    if len(region) == 1 and region[0] not in CODES:
        raise RegionTextError(f"{line[:60]!r}, which is none of the codes {_codes()}")
    if len(region) not in (1, 4) and (len(region) < FEWEST_NUMBERS or len(region) % 2):
        raise RegionTextError(f"{line[:60]!r}, whose {len(region)} numbers are no code, rectangle or polygon")
    return region


def _codes() -> str:
    return ", ".join(f"{code} ({meaning})" for code, meaning in CODES.items())


def format_region(region: Sequence[float]) -> str:
    """A line that `parse_region` reads back to the same numbers."""
    return ",".join(str(int(value)) if float(value).is_integer() else repr(float(value)) for value in region)


@dataclass(frozen=True)
class Trajectory:
    """One supervised run over one sequence: what each of its F lines holds.

    Raises:
        RegionTextError: no line, the first is not an initialisation, a region where nothing was initialised, or an
            initialisation while the target was tracked.
    """

    regions: tuple[Region, ...]

    def __post_init__(self) -> None:
        tracking = False
        for number, code in enumerate(self.codes.tolist(), start=1):
            if number == 1 and code not in (INITIALISED, FAILED):
                raise RegionTextError("line 1 without the code of an initialisation, 1")
            if code == TRACKED and not tracking:
                raise RegionTextError(f"line {number} with a region after a failure, before the next 1")
            if code == INITIALISED and tracking:
                raise RegionTextError(f"line {number} with a second 1 without a failure, 2, between")
            tracking = code == INITIALISED or (tracking and code != FAILED)
        if not self.regions:
            raise RegionTextError("no line")

    @property
    def codes(self) -> np.ndarray:
        """(F,) of `SKIPPED`, `INITIALISED`, `FAILED`, `TRACKED`."""
        return np.array([int(region[0]) if len(region) == 1 else TRACKED for region in self.regions], np.int64)

    @property
    def starts(self) -> np.ndarray:
        """(S,) frames, from 0, at which the tracker was given the target.

        They are marked 1, or 2 where it lost the target in that same frame.
        """
        found, tracking = [], False
        for frame, code in enumerate(self.codes.tolist()):
            if not tracking and code in (INITIALISED, FAILED):
                found.append(frame)
            tracking = code == INITIALISED or (tracking and code != FAILED)
        return np.array(found, np.int64)


def parse_trajectory(text: str) -> Trajectory:
    """A result file; empty lines at its end are left out.

    Raises:
        RegionTextError: with the number of the line, as `parse_region` and `Trajectory`.
    """
    regions = []
    for number, line in enumerate(text.rstrip().splitlines(), start=1):
        try:
            regions.append(parse_region(line))
        except RegionTextError as error:
            raise RegionTextError(f"line {number} {error}") from None
    return Trajectory(tuple(regions))


def format_trajectory(trajectory: Trajectory) -> str:
    """A result file that `parse_trajectory` reads back to the same trajectory."""
    return "".join(f"{format_region(region)}\n" for region in trajectory.regions)


def corners_of(regions: Iterable[Region]) -> np.ndarray:
    """(F, V, 2) corners in pixels; NaN rows for codes and where there is nothing.

    A rectangle's far corners are `x + w` and `y + h`. A polygon with less than V corners repeats its last.
    """
    polygons = [_corners(region) for region in regions]
    most = max((len(polygon) for polygon in polygons), default=0)
    corners = np.full((len(polygons), max(most, 1), 2), np.nan)
    for row, polygon in zip(corners, polygons, strict=True):
        if polygon:
            row[:] = polygon + polygon[-1:] * (len(row) - len(polygon))
    return corners


def _corners(region: Region) -> list[tuple[float, float]]:
    if len(region) < 4:
        return []
    if len(region) == 4:
        x, y, w, h = region
        return [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]
    return list(zip(region[::2], region[1::2], strict=True))
