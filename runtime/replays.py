"""Work that is enqueued again and again: captured once it comes back."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

Work = Callable[[], None]
MOST_KEYS = 16  # cameras and decoders cycle through a few buffers


class Replays:
    """Enqueues work by a key that says all its launches depend on.

    The first time, work is enqueued as it is, which compiles and allocates; the second time it is captured, and from
    then on replayed. Of many keys the latest are remembered.

    Args:
        capture: see `Device.capture`; None never captures.
    """

    def __init__(self, capture: Callable[[Work], Work] | None) -> None:
        self._capture = capture
        self._known: OrderedDict[bytes, tuple[Work, bool]] = OrderedDict()

    def run(self, key: bytes, make: Callable[[], Work]) -> None:
        """Enqueue the work of a key; `make` plans it where it is not known."""
        work, captured = self._known.pop(key, (None, False))
        if work is None:
            work = make()
        elif not captured and self._capture:
            work, captured = self._capture(work), True
        self._known[key] = work, captured
        if len(self._known) > MOST_KEYS:
            self._known.popitem(last=False)
        work()

    def clear(self) -> None:
        """Forget everything."""
        self._known.clear()
