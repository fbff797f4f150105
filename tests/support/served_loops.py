"""A driven loop with the API on a real socket."""

from __future__ import annotations

import contextlib
import threading
import time

from service_loops import QuickTracker, frame_of

from siamtrt.benchmarks.serve_process import connected
from siamtrt.errors import BundleError
from siamtrt.service.http_api import make_app
from siamtrt.service.http_guard import Access
from siamtrt.service.http_server import HttpServer
from siamtrt.service.metrics import Metrics

END_S = 0.6  # what a server may take to end, whatever its clients do


def broken_bundle():
    raise BundleError("bundle file search.onnx was changed", received="a", expected="b", fix="restore it")


BUNDLES = {"night": lambda: QuickTracker("night"), "broken": broken_bundle}


@contextlib.contextmanager
def served(run, access=None, place=("127.0.0.1", 0), bundles=BUNDLES):
    """The server's address."""
    metrics = Metrics(run.loop, run.faults)
    run.loop.listen(metrics)
    server = HttpServer(make_app(run.loop, run.faults, access or Access(), metrics, bundles), place, run.faults)
    server.start()
    try:
        yield server.address
    finally:
        start = time.monotonic()
        server.close()
        assert server.ended(3)
        assert time.monotonic() - start < END_S


@contextlib.contextmanager
def playing(run, period_s=0.01):
    """Frames come by themselves."""
    stop = threading.Event()

    def put():
        while not stop.wait(period_s):
            run.feed.put(frame_of())

    thread = threading.Thread(target=put)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(5)


def streaming(link):
    """The lines of /results; returns when the stream has begun."""
    link.sendall(b"GET /results HTTP/1.0\r\nHost: localhost\r\n\r\n")
    reader = link.makefile("rb")
    assert reader.readline().split()[1] == b"200"
    while reader.readline().strip():
        pass
    return iter(reader.readline, b"")


def first_status(address, path):
    with connected(address) as link:
        link.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        return int(link.makefile("rb").readline().split()[1])
