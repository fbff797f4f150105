"""Hostile HTTP clients against `siamtrt serve`, while it tracks."""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from siamtrt.benchmarks.serve_process import CONFIG, RESULTS, ServeProcess, ask, connected, served

SOURCE = "noise.avi"
CONTINUE = 100
CANARY = "canary"  # a file that code in a message would make
BATCH = 100  # messages between two looks whether it lives
ANSWER_S = 0.02  # given to half a request; whole ones are waited for
WARM_UP = 0.2  # of the messages, after which memory must not grow
EXPECTED = {200, 400, 401, 403, 404, 405, 411, 413, 415, 417, 422, 503, 504}
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 0.5, 1e-320, 1e308, -1e308, 10**18, 10**400, "", "pixels", "share", "../../etc/passwd",
    "night", "\0", "\ud800", "x" * 5000, [], {}, [[]], [1, 2, 3, 4], [0.1, 0.1, 0.5, 0.5], {"$ref": "#"},
    f"__import__('os').system('touch {CANARY}')", f"!!python/object/apply:os.system ['touch {CANARY}']",
    f"$(touch {CANARY})", f"; touch {CANARY} #", "{{7*7}}", f"\n\ntouch {CANARY}\n", "%n%s%x",
)  # fmt: skip
NAMES = ("command", "box", "unit", "bundle", "__class__", "constructor", "__proto__", "path", "")
COMMANDS = ("start", "reinit", "stop", "switch", "exit", "eval", "shutdown")


@dataclass(frozen=True)
class ControlOutcome:
    """What came of it.

    Attributes:
        messages: sent.
        statuses: of the answers, and how often; 0 where none came, as to half a request.
        faults: counted by the service.
        stray: files in its folder that do not belong there, or that were changed.
        grown_bytes: of its memory, after a warm-up.
        exit_code, end_s: of its end by SIGTERM.
    """

    messages: int
    statuses: Counter[int]
    faults: dict[str, int]
    stray: tuple[str, ...]
    grown_bytes: int
    alive: bool
    exit_code: int
    end_s: float
    seconds: float

    @property
    def crashes(self) -> int:
        """Answers that no client may cause, faults of the service's own code, and the end of the process."""
        strange = sum(count for status, count in self.statuses.items() if status not in EXPECTED | {0})
        return strange + self.faults.get("http_failed", 0) + (not self.alive) + (self.exit_code != 0)


def fuzz_control(count: int, seed: int) -> ControlOutcome:
    """Send hostile messages over TCP to a service with the default tracker, all from `seed`."""
    chance, began_s = random.Random(seed), time.monotonic()
    hostile = HostileClient(chance)
    statuses: Counter[int] = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        noise_video(folder / SOURCE)
        config = f"source: {SOURCE}\nloop: true\nrealtime: true\nhttp: {{port: 0}}\nbundles: {{night: {_default()}}}\n"
        with served(folder, f"{config}outputs: {{jsonl: [{{path: {RESULTS}}}]}}\n") as service:
            before = _contents(folder)
            first, alive = 0, True
            for sent in range(0, count, BATCH):
                for _ in range(min(BATCH, count - sent)):
                    statuses[hostile.send(service.http)] += 1
                alive = alive and _lives(service)
                if not first and sent >= WARM_UP * count:
                    first = service.memory()
            faults = service.faults() if alive else {}
            grown = service.memory() - first if alive else 0
            code, end_s = service.end()
            stray = tuple(sorted(path for path, _ in before ^ _contents(folder)))
    return ControlOutcome(
        count, statuses, faults, stray, grown, alive, code, end_s, time.monotonic() - began_s
    )  # fmt: skip


def noise_video(path: Path, frames: int = 30, size: tuple[int, int] = (160, 120)) -> None:
    """A second of spots that move, as a file."""
    spots = np.random.default_rng(0).integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    still = cv2.resize(spots, size)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30.0, size)
    for number in range(frames):
        writer.write(np.roll(still, number, axis=1))
    writer.release()


def _default() -> Path:
    from siamtrt.default_tracker import default_bundle

    return default_bundle()


def _contents(folder: Path) -> set[tuple[str, int]]:
    """Every path and its size, but for the results, which grow."""
    left_out = {RESULTS, CONFIG}
    paths = (path for path in folder.rglob("*") if path.name not in left_out)
    return {(str(path.relative_to(folder)), path.lstat().st_size) for path in paths}


def _lives(service: ServeProcess) -> bool:
    try:
        return service.process.poll() is None and ask(service.http, "/health", Host="localhost").status == 200
    except OSError:
        return False


class HostileClient:
    """Sends requests that nobody should send.

    Args:
        chance: decides everything.
    """

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._bodies: list[Callable[[], bytes]] = [
            *(self._odd_command,) * 4, *(self._changed,) * 4, self._any_json, self._noise, self._deep, self._sound,
        ]  # fmt: skip

    def send(self, address: str) -> int:
        """One request; returns the answer's status, 0 without one."""
        raw = self._chance.random() < 0.4
        request = self._garbage() if raw else self._request(self._chance.choice(self._bodies)())
        with suppress(OSError), connected(address) as link:
            link.sendall(request)
            link.settimeout(ANSWER_S if raw else 10.0)
            status = _status(link.recv(4096))
            return _status(link.recv(4096)) if status == CONTINUE else status
        return 0

    def _request(self, body: bytes, headers: str = "") -> bytes:
        kind = self._chance.choice(("application/json",) * 8 + ("text/plain", "application/json; charset=utf-16"))
        head = f"POST /control HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {kind}\r\n{headers}"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def _value(self, depth: int = 0) -> Any:
        pick = self._chance.random()
        if depth < 4 and pick < 0.2:
            return [self._value(depth + 1) for _ in range(self._chance.randint(0, 6))]
        if depth < 4 and pick < 0.3:
            return {self._chance.choice(NAMES): self._value(depth + 1) for _ in range(self._chance.randint(0, 4))}
        return self._chance.choice(ODD)

    def _sound(self) -> bytes:
        """What is expected, though seldom a good idea."""
        if self._chance.random() < 0.1:
            return b'{"command": "switch", "bundle": "night"}'
        box = [self._chance.uniform(0, 0.9), self._chance.uniform(0, 0.9), *(10 ** self._chance.uniform(-3, 1),) * 2]
        return json.dumps({"command": "start", "box": box, "unit": "share"}).encode()

    def _any_json(self) -> bytes:
        return json.dumps(self._value()).encode()

    def _odd_command(self) -> bytes:
        """Nearly what is expected, sometimes exactly that."""
        message: dict[str, Any] = {"command": self._chance.choice(COMMANDS)}
        if self._chance.random() < 0.7:
            message["box"] = [self._chance.choice((self._chance.uniform(-300, 300), 20, *ODD)) for _ in range(4)]
        if self._chance.random() < 0.5:
            message[self._chance.choice(NAMES)] = self._value()
        return json.dumps(message).encode()

    def _changed(self) -> bytes:
        return changed(self._chance, b'{"command": "start", "box": [10.5, 20, 64, 48], "unit": "pixels"}')

    def _noise(self) -> bytes:
        return self._chance.randbytes(self._chance.choice((0, 1, 50, 4000, 70_000)))

    def _deep(self) -> bytes:
        opening = self._chance.choice((b"[", b'{"a":', b'{"command":', b'{"command": "start", "box": ['))
        return opening * self._chance.choice((10, 500, 2000, 60_000 // len(opening)))

    def _garbage(self) -> bytes:
        """What is hardly HTTP."""
        body = self._chance.choice(self._bodies)()
        size = self._chance.choice(("-1", "99999999999999999999", "0x10", "1, 2", str(len(body) // 2), "\xff"))
        chunked = "Transfer-Encoding: chunked\r\n"
        return self._chance.choice((
            self._chance.randbytes(self._chance.choice((1, 100, 20_000))),
            b"\x16\x03\x01\x02\x00" + self._chance.randbytes(200),
            changed(self._chance, self._request(body)),
            self._request(body)[: self._chance.randint(1, 200)],
            f"POST /control HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n".encode("latin-1") + body,
            self._request(body, f"{chunked}Content-Encoding: gzip\r\n"), self._request(body, chunked),
            self._request(b"ffffffff\r\n" + body, chunked.replace("chunked", "gzip, chunked")),
            self._request(body, "Expect: 100-continue\r\n"), self._request(body, "Content-Encoding: deflate\r\n"),
            self._request(body, "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\n"),
            self._request(body, "X: " + "y" * 10_000 + "\r\n"), self._request(body, "A: b\r\n" * 500),
            self._request(body) * 20,
            f"GET /{'../' * 50}etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(),
            b"GET http://evil.example/result HTTP/1.1\r\nHost: evil.example\r\n\r\n",
            b"CONNECT evil.example:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /results HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET /%00%ff%2e%2e/health HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ))  # fmt: skip


def changed(chance: random.Random, data: bytes) -> bytes:
    """Some bytes of it flipped, removed, doubled or added."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(out) + 1)
        kind = chance.randrange(4)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            out[at : at + chance.randint(1, 8)] = b""
        elif kind == 2:
            out[at:at] = out[at : at + chance.randint(1, 40)]
        else:
            out[at:at] = chance.randbytes(chance.randint(1, 8))
    return bytes(out)


def _status(answer: bytes) -> int:
    parts = answer[:20].split()
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0
