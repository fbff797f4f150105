"""`siamtrt serve` in a process of its own, and a client of its API."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from siamtrt.errors import ServiceError

COMMAND = (sys.executable, "-m", "siamtrt.cli", "serve")
CONFIG, RESULTS = "service.yaml", "results.jsonl"
END_S = 10.0  # before it is killed
MOST_LOG = 1 << 20  # characters kept


class Answer(NamedTuple):
    """Status, headers by lower-case name, and the body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


def connected(address: str, timeout_s: float = 5.0) -> socket.socket:
    """A connection to "http://HOST:PORT" or "unix:PATH"."""
    if address.startswith("unix:"):
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(timeout_s)
        link.connect(address.removeprefix("unix:"))
        return link
    host, port = address.removeprefix("http://").rsplit(":", 1)
    return socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s)


def ask(address: str, path: str, body: bytes | None = None, method: str | None = None, **headers: str) -> Answer:
    """One request; underscores of header names stand for hyphens."""
    connection = http.client.HTTPConnection("127.0.0.1", timeout=10)
    connection.sock = connected(address)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method or ("GET" if body is None else "POST"), path, body, named)
        answer = connection.getresponse()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def control(address: str, message: object, **headers: str) -> Answer:
    """Post a control message: an object, or the bytes of one."""
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    return ask(address, "/control", body, **{"Content_Type": "application/json", **headers})


class ServeProcess:
    """A running service.

    Args:
        folder: where it runs; the config is written there.
        environment: beside this process's own.

    Attributes:
        http, unix: where it listens.

    Raises:
        ServiceError: it does not start.
    """

    def __init__(self, folder: Path, config: str, **environment: str) -> None:
        (folder / CONFIG).write_text(config)
        self._folder, self._lines = folder, [""]
        self.process = subprocess.Popen(
            [*COMMAND, CONFIG], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            errors="replace", env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        )  # fmt: skip
        self._started = threading.Event()
        self._reader = threading.Thread(target=self._read, name="its log")
        self._reader.start()
        self._started.wait()
        found = re.findall(r"http://[^,;\s]+|unix:[^,;\s]+", self.log.partition("listens on")[2])
        self.http, self.unix = (next((one for one in found if one.startswith(kind)), "") for kind in ("http", "unix"))
        if "listens on" not in self.log:
            self.process.wait(END_S)
            raise ServiceError("the service does not start", received=self.log, expected="a service", fix="see its log")

    @property
    def log(self) -> str:
        """What it has said so far, up to a limit."""
        return "".join(self._lines)

    def faults(self) -> dict[str, int]:
        """What it has counted."""
        seen = ask(self.http or self.unix, "/health", Host="localhost").json["faults"]
        return {kind: fault["count"] for kind, fault in seen.items()}

    def results(self) -> list[dict[str, Any]]:
        """What it has written so far, in whole lines."""
        text = (self._folder / RESULTS).read_bytes()
        return [json.loads(line) for line in text[: text.rfind(b"\n") + 1].splitlines()]

    def memory(self) -> int:
        """Bytes in memory."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def end(self, sign: int = signal.SIGTERM) -> tuple[int, float]:
        """Send a signal; returns the exit code and the seconds it took.

        Raises:
            subprocess.TimeoutExpired: it does not end.
        """
        start = time.monotonic()
        self.process.send_signal(sign)
        code = self.process.wait(END_S)
        took_s = time.monotonic() - start
        self._reader.join(END_S)
        return code, took_s

    def close(self) -> None:
        """Kill it if it runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(END_S)
        self._reader.join(END_S)

    def _read(self) -> None:
        assert self.process.stderr is not None
        size = 0
        with self.process.stderr as log:
            for line in log:
                size += len(line)
                if size < MOST_LOG:
                    self._lines.append(line)
                if "listens on" in line:
                    self._started.set()
        self._started.set()


@contextmanager
def served(folder: Path, config: str, **environment: str) -> Iterator[ServeProcess]:
    """A `ServeProcess` that is gone at the end."""
    process = ServeProcess(folder, config, **environment)
    try:
        yield process
    finally:
        process.close()
