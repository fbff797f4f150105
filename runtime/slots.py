"""What trackers of several targets refuse, in one wording."""

from __future__ import annotations

from collections.abc import Iterable

from siamtrt.errors import SiamtrtError


def no_slot(slots: int) -> SiamtrtError:
    """Every slot is taken."""
    return SiamtrtError(
        "no slot for another target", received=f"a target beside {slots}", expected=f"at most {slots}",
        fix="drop one, or export the bundle with a larger --batch",
    )


def no_such_target(number: int, known: Iterable[int]) -> SiamtrtError:
    """A number that `add` did not return, or that was dropped before."""
    return SiamtrtError(
        "no such target", received=str(number), expected=f"one of {sorted(known)}",
        fix="drop a number that add returned, once",
    )
