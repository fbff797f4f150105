"""Sessions, crop, decode, tracker, sources and sinks: all a device needs, without torch."""

from siamtrt.runtime.multi import MultiTracker
from siamtrt.runtime.session import Session, open_session
from siamtrt.runtime.tracker import Tracker, TrackResult

__all__ = ["MultiTracker", "Session", "TrackResult", "Tracker", "open_session"]
