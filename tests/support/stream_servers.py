"""Small servers of real streams on the loopback: MPEG-TS over TCP, UDP and RTSP, MJPEG over HTTP."""

from __future__ import annotations

import base64
import io
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction

import cv2
import numpy as np

FPS = 30
TS_PACKET = 188  # bytes
TS_PACKETS = 7  # of a datagram: 1,316 bytes fit into one Ethernet frame
RTP_MP2T = 33  # RFC 3551
RTP_CLOCK = 90_000


def grey_frames(values: Sequence[int], size: tuple[int, int] = (160, 120)) -> list[np.ndarray]:
    """A frame of one grey value each."""
    return [np.full((size[1], size[0], 3), value, np.uint8) for value in values]


def transport_stream(frames: Sequence[np.ndarray]) -> bytes:
    """Frames as MPEG-2 video in an MPEG transport stream, a key frame every tenth."""
    import av

    height, width = frames[0].shape[:2]
    file = io.BytesIO()
    with av.open(file, "w", format="mpegts") as container:
        stream = container.add_stream("mpeg2video", rate=FPS)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = width, height, "yuv420p", 10
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="bgr24")
            picture.pts, picture.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return file.getvalue()


def datagrams(stream: bytes) -> list[bytes]:
    """A transport stream in pieces that fit into a datagram."""
    step = TS_PACKET * TS_PACKETS
    return [stream[at : at + step] for at in range(0, len(stream), step)]


class Server:
    """Answers each connection in a thread of its own.

    Args:
        answer: given the connection and its number, from 0; the connection is closed when it returns.
    """

    def __init__(self, answer: Callable[[socket.socket, int], None], port: int = 0) -> None:
        self._answer, self._open = answer, []
        self._listening = socket.create_server(("127.0.0.1", port))
        self.port = self._listening.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):
            for number in range(10_000):
                connection, _ = self._listening.accept()
                self._open.append(connection)
                self._threads.append(threading.Thread(target=self._serve, args=(connection, number)))
                self._threads[-1].start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with connection, suppress(OSError):
            self._answer(connection, number)

    def close(self) -> None:
        """Stop listening and cut every connection."""
        for end in (self._listening, *self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        for thread in self._threads:
            thread.join(10)


@contextmanager
def serving(answer: Callable[[socket.socket, int], None], port: int = 0) -> Iterator[Server]:
    """A `Server` that is closed at the end."""
    server = Server(answer, port)
    try:
        yield server
    finally:
        server.close()


def hold(connection: socket.socket) -> None:
    """Say nothing more until the other end has gone."""
    while connection.recv(4096):
        pass


def send_jpegs(connection: socket.socket, frames: Sequence[np.ndarray], pause_s: float = 0.0) -> None:
    """Answer an HTTP request as a network camera does, with pictures one after another."""
    connection.recv(4096)
    connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=next\r\n\r\n")
    for frame in frames:
        jpeg = cv2.imencode(".jpg", frame)[1].tobytes()
        head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
        connection.sendall(head + jpeg + b"\r\n")
        time.sleep(pause_s)


@contextmanager
def udp_sender(port: int, stream: bytes, seconds_long: float) -> Iterator[None]:
    """Send a transport stream to a port again and again, as fast as it plays."""
    stop = threading.Event()
    pieces = datagrams(stream)

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            while True:
                for piece in pieces:
                    with suppress(OSError):  # nobody listens yet
                        out.sendto(piece, ("127.0.0.1", port))
                    if stop.wait(seconds_long / len(pieces)):
                        return

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)


def free_udp_port() -> int:
    """A port nobody has at the moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve_rtsp(connection: socket.socket, stream: bytes, login: str = "", pause_s: float = 0.0) -> bool:
    """Speak RTSP (RFC 2326) until PLAY, then send a transport stream as RTP (RFC 2250) in the same connection.

    Args:
        login: "user:password" asked for, as Basic authorisation.

    Returns:
        Whether it came to PLAY.
    """
    reader = connection.makefile("rb")
    expected = f"Basic {base64.b64encode(login.encode()).decode()}"
    url = f"rtsp://127.0.0.1:{connection.getsockname()[1]}/stream"
    sdp = f"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nt=0 0\r\nm=video 0 RTP/AVP {RTP_MP2T}\r\na=control:{url}/0\r\n"
    while request := reader.readline().decode().split():
        headers = dict(line.split(": ", 1) for line in iter(lambda: reader.readline().decode().strip(), ""))
        common = f"CSeq: {headers['CSeq']}\r\n"
        if login and headers.get("Authorization") != expected:
            reply = f'RTSP/1.0 401 Unauthorized\r\n{common}WWW-Authenticate: Basic realm="test"\r\n\r\n'
        elif request[0] == "OPTIONS":
            reply = f"RTSP/1.0 200 OK\r\n{common}Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n\r\n"
        elif request[0] == "DESCRIBE":
            kind = f"Content-Type: application/sdp\r\nContent-Base: {url}/\r\nContent-Length: {len(sdp)}\r\n"
            reply = f"RTSP/1.0 200 OK\r\n{common}{kind}\r\n{sdp}"
        elif request[0] == "SETUP":
            transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
            reply = f"RTSP/1.0 200 OK\r\n{common}{transport}Session: 1\r\n\r\n"
        else:
            reply = f"RTSP/1.0 200 OK\r\n{common}Session: 1\r\n\r\n"
        connection.sendall(reply.encode())
        if request[0] == "PLAY":
            _send_rtp(connection, stream, pause_s)
            return True
    return False


def _send_rtp(connection: socket.socket, stream: bytes, pause_s: float) -> None:
    for number, piece in enumerate(datagrams(stream)):
        header = struct.pack(">BBHII", 0x80, RTP_MP2T, number & 0xFFFF, (number * RTP_CLOCK // FPS) & 0xFFFFFFFF, 1)
        connection.sendall(b"$" + struct.pack(">BH", 0, len(header) + len(piece)) + header + piece)
        time.sleep(pause_s)
