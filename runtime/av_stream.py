"""Streams of the network, read by PyAV with as little delay as FFmpeg allows."""

from __future__ import annotations

from collections.abc import Iterator

import av
import numpy as np

from siamtrt.runtime.streams import DEFAULT_FPS, CorruptFrameError, StreamLostError

LOW_DELAY = {
    "fflags": "nobuffer",
    "analyzeduration": "1000000",  # us of stream looked at before the first frame; FFmpeg's own is 5 s
    "rtsp_transport": "tcp",  # UDP loses packets, and a lost packet is a torn frame until the next key frame
    "overrun_nonfatal": "1",  # udp: a full buffer loses packets, not the stream
}


class AvStream:
    """The first video stream behind a URL.

    Args:
        open_timeout_s, read_timeout_s: after which the server counts as gone.

    Raises:
        OSError, ValueError: of FFmpeg.
        StreamLostError: no video in it.
    """

    def __init__(self, url: str, open_timeout_s: float, read_timeout_s: float) -> None:
        self._container = av.open(url, options=LOW_DELAY, timeout=(open_timeout_s, read_timeout_s))
        try:
            if not self._container.streams.video:
                raise StreamLostError("it holds no video")
            video = self._container.streams.video[0]
            video.thread_type = "SLICE"  # frame threads decode n frames late
            video.codec_context.flags |= av.codec.context.Flags.low_delay
        except BaseException:
            self._container.close()
            raise
        self.fps = float(video.average_rate or video.guessed_rate or DEFAULT_FPS)
        self._packets = self._container.demux(video)
        self._decoded: Iterator[av.VideoFrame] = iter(())

    def read(self) -> np.ndarray:
        """The next frame, (H, W, 3) uint8 BGR.

        Raises:
            CorruptFrameError: the decoder met an error in it.
            StreamLostError, OSError: the stream ended or cannot be read.
        """
        while True:
            frame = next(self._decoded, None)
            if frame is not None:
                if frame.is_corrupt:
                    raise CorruptFrameError("the decoder marked the frame as corrupt")
                return frame.to_ndarray(format="bgr24")
            packet = next(self._packets, None)
            if packet is None:
                raise StreamLostError("the stream ended")
            try:
                self._decoded = iter(packet.decode())
            except av.error.InvalidDataError as error:
                raise CorruptFrameError(str(error)) from error

    def close(self) -> None:
        self._container.close()
