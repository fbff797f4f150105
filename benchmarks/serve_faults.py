"""Does the service live through its faults? `python -m siamtrt.benchmarks.serve_faults`.

A real `siamtrt serve` tracks the stream of a small camera server, which is cut, damaged and changed in size, while a
disk is full, scrapers hang and malformed messages come. Of every fault: how often it was made, how often the service
counted it and under which name, and the largest gap between two results meanwhile.
"""

from __future__ import annotations

import itertools
import random
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import click
import cv2
import numpy as np

from siamtrt.benchmarks.serve_process import RESULTS, ServeProcess, connected, control, served
from siamtrt.service.http_guard import IDLE_S, SWEEP_S

FPS = 30
SIZE = (320, 240)
SIZES = ((320, 240), (400, 300), (240, 180))
CUTS, MESSAGES_S = 20, 100
HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=next\r\n\r\n"
SCRAPERS, PATHS = 9, ("/metrics", "/results", "/metrics")
CUT_OFF_S = IDLE_S + 3 * SWEEP_S  # until a client that hangs has been noticed
BLOCKED_MS = 500.0  # a larger gap without a cut of the stream means that something blocked the loop
END_BAR_S = 1.0


class Camera:
    """A network camera that gives MJPEG over HTTP, and does what it is told.

    Attributes:
        damage: a frame's JPEG is passed through it.
        size_of: the size of a frame, by its number.
    """

    def __init__(self) -> None:
        self.damage: Callable[[bytes], bytes] = lambda jpeg: jpeg
        self.size_of: Callable[[int], tuple[int, int]] = lambda number: SIZE
        self._spots = np.random.default_rng(1).integers(0, 256, (15, 20, 3), dtype=np.uint8)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/"
        self._numbers = itertools.count()
        self._connection: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, name="camera")
        self._thread.start()

    def cut(self) -> None:
        """End the connection."""
        if self._connection:
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                self._connection, _ = self._listening.accept()
            except OSError:
                return
            with self._connection, suppress(OSError):
                self._connection.recv(4096)
                self._connection.sendall(HEAD)
                while True:
                    self._connection.sendall(self._part(next(self._numbers)))
                    time.sleep(1 / FPS)

    def _part(self, number: int) -> bytes:
        size = self.size_of(number)
        picture = np.roll(cv2.resize(self._spots, size), number % size[0], axis=1)
        jpeg = self.damage(cv2.imencode(".jpg", picture)[1].tobytes())
        return b"--next\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n" % (len(jpeg), jpeg)


@dataclass(frozen=True)
class Row:
    """A fault and what came of it.

    Attributes:
        made: how often it was caused.
        counted: by the service meanwhile, by name.
        named: the names of which one at least has to be counted.
        results: written meanwhile.
        gap_ms: the largest between two of them.
    """

    fault: str
    made: int
    counted: Counter[str]
    named: tuple[str, ...]
    results: int
    gap_ms: float

    @property
    def miss(self) -> str:
        """What is wrong, empty if nothing is."""
        if self.named and not any(self.counted[name] for name in self.named):
            return f"{self.fault}: not counted as {' or '.join(self.named)}"
        if self.gap_ms > BLOCKED_MS and "stream_lost" not in self.named:
            return f"{self.fault}: {self.gap_ms:.0f} ms without a result"
        return ""


@dataclass(frozen=True)
class Outcome:
    """All rows, and the end of the process by SIGTERM."""

    rows: list[Row]
    exit_code: int
    end_s: float

    @property
    def misses(self) -> list[str]:
        """What is wrong."""
        bars = {
            f"exit code {self.exit_code}": self.exit_code == 0,
            f"{self.end_s:.1f} s from SIGTERM to the end": self.end_s <= END_BAR_S,
        }
        return [*filter(None, (row.miss for row in self.rows)), *(what for what, fine in bars.items() if not fine)]


def serve_faults(seconds: float) -> Outcome:
    """Cause every fault for about so many seconds each."""
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        camera = Camera()
        opened.callback(camera.close)
        target = [SIZE[0] / 3, SIZE[1] / 3, SIZE[0] / 5, SIZE[1] / 4]
        outputs = f"outputs: {{jsonl: [{{path: {RESULTS}}}, {{path: /dev/full}}]}}\n"
        config = f"source: {camera.url}\ntarget: {target}\nhttp: {{port: 0}}\n{outputs}"
        service = opened.enter_context(served(folder, config))
        while len(service.results()) < FPS:
            time.sleep(0.1)
        rows = [_row(service, *phase) for phase in _phases(service, camera, seconds)]
        code, end_s = service.end()
    return Outcome(rows, code, end_s)


Phase = tuple[str, tuple[str, ...], Callable[[], int]]


def _phases(service: ServeProcess, camera: Camera, seconds: float) -> list[Phase]:
    """Each fault, its names, and what causes it and returns how often it did."""

    def quiet() -> int:
        time.sleep(seconds)
        return round(seconds * FPS)

    def cuts() -> int:
        for _ in range(CUTS):
            camera.cut()
            time.sleep(max(seconds / CUTS, 0.3))
        return CUTS

    def damaged() -> int:
        damages = itertools.count()
        camera.damage = lambda jpeg: _damaged(jpeg) if next(damages) % 3 == 0 else jpeg
        time.sleep(seconds)
        camera.damage = lambda jpeg: jpeg
        return next(damages) // 3

    def sizes() -> int:
        camera.size_of = lambda number: SIZES[number // 10 % len(SIZES)]
        time.sleep(seconds)
        camera.size_of = lambda number: SIZE
        return round(seconds * FPS / 10)

    def scrapers() -> int:
        with _hanging_scrapers(service.http):
            time.sleep(CUT_OFF_S)
        return SCRAPERS

    def messages() -> int:
        count, start = round(seconds * MESSAGES_S), time.monotonic()
        for number in range(count):
            time.sleep(max(start + number / MESSAGES_S - time.monotonic(), 0))
            control(service.http, b'{"command": "start", "box": [1, 2, NaN', Host="localhost")
        return count

    return [
        ("a disk that is full", ("output_failed",), quiet), ("the stream cut", ("stream_lost",), cuts),
        ("frames damaged", ("frame_corrupt", "frame_unusable"), damaged),
        ("sizes changed", ("frame_size_changed",), sizes),
        ("scrapers that hang", ("http_slow_client", "http_idle"), scrapers),
        (f"{MESSAGES_S} malformed messages a second", ("control_refused",), messages),
    ]  # fmt: skip


def _damaged(jpeg: bytes) -> bytes:
    """As many bytes of noise: of a picture that is there in part, FFmpeg shows that part."""
    return random.Random(len(jpeg)).randbytes(len(jpeg))


@contextmanager
def _hanging_scrapers(address: str) -> Iterator[None]:
    """Some ask for metrics again and again, some for all results, and none reads; some never finish their request."""
    metrics, results, unfinished = (f"GET {path} HTTP/1.1\r\nHost: localhost\r\n".encode() for path in PATHS)
    requests = ((metrics + b"\r\n") * 2000, results + b"\r\n", unfinished)
    with ExitStack() as opened:
        for number in range(SCRAPERS):
            link = opened.enter_context(connected(address))
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            link.setblocking(False)
            with suppress(BlockingIOError):  # the service no longer reads what it cannot answer
                link.sendall(requests[number % len(requests)])
        yield


def _row(service: ServeProcess, fault: str, named: tuple[str, ...], cause: Callable[[], int]) -> Row:
    before, start_s = Counter(service.faults()), time.time()
    made = cause()
    time.sleep(0.2)
    counted, end_s = Counter(service.faults()) - before, time.time()
    times = [row["time"] + row["latency_ms"] / 1e3 for row in service.results()]
    within = np.array([at_s for at_s in times if start_s <= at_s <= end_s])
    gaps_s = np.diff(np.concatenate([[start_s], within, [end_s]]))
    return Row(fault, made, counted, named, len(within), 1e3 * float(gaps_s.max()))


@click.command()
@click.option("--seconds", type=click.FloatRange(1, 600), default=10.0, show_default=True, help="Of each fault.")
def main(seconds: float) -> None:
    """Cut, damage, fill, hang, and see that the service goes on; exit code 1 if it does not."""
    outcome = serve_faults(seconds)
    click.echo("| Fault | Caused | Counted as | Results meanwhile | Largest gap, ms |\n|---|---|---|---|---|")
    for row in outcome.rows:
        counted = ", ".join(f"{name} {count}" for name, count in row.counted.items()) or "nothing"
        click.echo(f"| {row.fault} | {row.made} | {counted} | {row.results} | {row.gap_ms:.0f} |")
    click.echo(f"\nSIGTERM ended it in {outcome.end_s:.2f} s with exit code {outcome.exit_code}.")
    for miss in outcome.misses:
        click.echo(miss, err=True)
    sys.exit(bool(outcome.misses))


if __name__ == "__main__":
    main()
