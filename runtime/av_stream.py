"""Streams of the network, read by PyAV with as little delay as FFmpeg allows."""

from __future__ import annotations

from collections.abc import Iterator

import av
import numpy as np

from siamtrt.runtime.streams import CorruptFrameError, StreamLostError, plausible_fps

# FFmpeg's `nobuffer` is left out: it throws away what was looked at while opening, and with it the first key frame, so
# that the first picture waits for the second one. Nor is `low_delay` set: MPEG-2's B-frames then come out of order, and
# H.264 gives each frame with its packet without it.
OPTIONS = {
    "analyzeduration": "500000",  # us of stream looked at before it counts as open; FFmpeg's own 5 s
    "fpsprobesize": "2",  # frames looked at for the rate; FFmpeg's own 20 take 0.7 s at 30 a second
    "rtsp_transport": "tcp",  # over UDP a lost packet tears every picture up to the next key frame
    "overrun_nonfatal": "1",  # udp: a full buffer loses packets, not the stream
}


class AvStream:
    """The first video stream behind a URL.

    Args:
        open_timeout_s, read_timeout_s: after which the server counts as gone.

    Raises:
        StreamLostError: it does not open, or holds no video. No message names the URL, which may hold a password.
    """

    def __init__(self, url: str, open_timeout_s: float, read_timeout_s: float) -> None:
        try:
            self._container = av.open(url, options=OPTIONS, timeout=(open_timeout_s, read_timeout_s))
        except (av.error.FFmpegError, ValueError) as error:
            raise StreamLostError(_reason(error)) from None
        if not self._container.streams.video:
            self._container.close()
            raise StreamLostError("it holds no video")
        video = self._container.streams.video[0]
        video.thread_type = "SLICE"  # threads that decode a frame each are as many frames late
        self.fps = plausible_fps(float(video.average_rate or video.guessed_rate or 0))
        self._packets = self._container.demux(video)
        self._decoded: Iterator[av.VideoFrame] = iter(())

    def read(self) -> np.ndarray:
        """The next frame, (H, W, 3) uint8 BGR.

        Raises:
            CorruptFrameError: the decoder met an error in it.
            StreamLostError: the stream ended or cannot be read.
        """
        while True:
            frame = next(self._decoded, None)
            if frame is not None:
                if frame.is_corrupt:
                    raise CorruptFrameError("the decoder marked the frame as corrupt")
                return frame.to_ndarray(format="bgr24")
            try:
                packet = next(self._packets, None)
            except av.error.FFmpegError as error:
                raise StreamLostError(_reason(error)) from None
            if packet is None:
                raise StreamLostError("the stream ended")
            try:
                self._decoded = iter(packet.decode())
            except av.error.FFmpegError as error:
                raise CorruptFrameError(_reason(error)) from None

    def close(self) -> None:
        """Close the connection."""
        self._container.close()


def _reason(error: Exception) -> str:
    if isinstance(error, av.error.ExitError):  # how FFmpeg says that its time was up
        return "no answer in time"
    return getattr(error, "strerror", None) or type(error).__name__
