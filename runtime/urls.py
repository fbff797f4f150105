"""Streams of the network, and texts without the credentials that their URLs hold."""

from __future__ import annotations

import re
from importlib.util import find_spec

import cv2

from siamtrt.errors import SourceError
from siamtrt.runtime.streams import CvStream, Stream, StreamLostError

OPEN_TIMEOUT_S = 5.0  # of a URL
READ_TIMEOUT_S = 7.0  # of a URL; above a feed's patience, which has named the stall by then
URL = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "udp", "tcp", "rtp", "srt")
_SECRETS = (
    (re.compile(r"(\w:/+)\S*@"), r"\1***@"),  # up to the last @: passwords hold any character
    (re.compile(r"""(?i)(?<![a-z])((?:user|usr|pass|pwd|pw|token|secret|auth|api|key|sig)[\w-]*)="""
                r"""("[^"]*"|'[^']*'|[^\s&]*)"""), r"\1=***"),
)  # fmt: skip


def is_url(text: str) -> bool:
    """Whether a text begins as a URL does."""
    return URL.match(text) is not None


def redacted(text: str) -> str:
    """A text without the credentials of URLs, query strings and GStreamer properties in it."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def require_scheme(url: str) -> None:
    """Raise unless a URL is of a kind that cameras and servers speak.

    Raises:
        SourceError: it is not.
    """
    scheme = URL.match(url)
    if scheme is None or scheme[1].lower() not in SCHEMES:
        raise SourceError(
            "no stream of this kind is read", received=redacted(url), expected=", ".join(f"{s}://" for s in SCHEMES),
            fix="check the URL; a file is given by its path",
        )


def open_url(url: str) -> Stream:
    """Open a stream of the network with PyAV, or with OpenCV's FFmpeg where PyAV is not installed.

    Raises:
        SourceError: it does not answer, or holds no video.
    """
    if find_spec("av") is None:
        return _open_url_with_opencv(url)
    from siamtrt.runtime.av_stream import AvStream

    try:
        return AvStream(url, OPEN_TIMEOUT_S, READ_TIMEOUT_S)
    except StreamLostError as error:
        raise stream_refused(url, str(error)) from None


def _open_url_with_opencv(url: str) -> CvStream:
    timeouts = {cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: OPEN_TIMEOUT_S, cv2.CAP_PROP_READ_TIMEOUT_MSEC: READ_TIMEOUT_S}
    options = [number for key, seconds in timeouts.items() for number in (key, int(1e3 * seconds))]
    capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, options)
    if not capture.isOpened():
        raise stream_refused(url, "OpenCV does not say why; with PyAV, siamtrt[stream], the reason is here")
    return CvStream(capture, lambda: StreamLostError("the stream ended or timed out"))


def stream_refused(url: str, reason: str) -> SourceError:
    """The error of a stream that cannot be opened."""
    return SourceError(
        "stream does not open", received=redacted(f"{url} ({reason})"),
        expected=f"a video stream that answers within {OPEN_TIMEOUT_S:.0f} s",
        fix="check address, credentials and network; play the URL with another program",
    )
