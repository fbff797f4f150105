"""An HTTP server in a thread of its own: nothing its clients do holds up the tracking loop."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import stat
import threading
from contextlib import suppress
from pathlib import Path

from aiohttp import web

from siamtrt.errors import ServiceError
from siamtrt.service.faults import Faults
from siamtrt.service.http_guard import CONNECTIONS, IDLE_S
from siamtrt.service.updates import Listener

SHUTDOWN_S = 0.15  # for requests that are being answered when the server ends
STARTUP_S = 5.0


class HttpServer(Listener):
    """Serves an application on an address, or on a Unix socket that only this user may use; ends with a loop.

    Args:
        app: see `guarded_app`.
        place: (host, port), port 0 for a free one, or the path of a Unix socket.
        faults: told of what is no HTTP ("http_malformed").
    """

    name = "http"

    def __init__(self, app: web.Application, place: tuple[str, int] | Path, faults: Faults) -> None:
        self._app, self._place, self._faults = app, place, faults
        self._socket: socket.socket | None = None
        self._inode: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Event | None = None
        self._closed = False
        self._ready = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="siamtrt http", daemon=True)

    @property
    def address(self) -> str:
        """Where it listens: "http://127.0.0.1:8765" or "unix:/run/siamtrt.sock"."""
        if isinstance(self._place, Path):
            return f"unix:{self._place}"
        assert self._socket is not None
        host, port = self._socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def start(self) -> None:
        """Listen; returns when clients are answered.

        Raises:
            ServiceError: the address is in use, or not this machine's.
        """
        if isinstance(self._place, Path):
            self._socket = _unix_socket(self._place)
            self._inode = self._place.stat().st_ino
        else:
            self._socket = _tcp_socket(*self._place)
        self._thread.start()
        self._ready.wait(STARTUP_S)
        if self._failure:
            raise self._failure

    def close(self) -> None:
        """Begin to end: no further clients, streams end. Returns at once."""
        self._closed = True
        loop, closing = self._loop, self._closing
        if loop and closing:
            with suppress(RuntimeError):  # it has ended
                loop.call_soon_threadsafe(closing.set)

    def ended(self, timeout_s: float) -> bool:
        """Wait for the end after `close`; False where it took longer. A Unix socket's file is removed."""
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        if self._socket is not None:
            self._socket.close()
        if isinstance(self._place, Path) and self._inode is not None:
            with suppress(OSError):
                if self._place.stat().st_ino == self._inode:
                    self._place.unlink()
            self._inode = None
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:  # without it the loop goes on tracking
            self._failure = error
            self._faults("http_failed", f"{type(error).__name__}: {error}")
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._closing = asyncio.get_running_loop(), asyncio.Event()
        if self._closed:
            return
        runner = web.AppRunner(
            self._app, access_log=None, logger=_counting_logger(self._faults), keepalive_timeout=10 * IDLE_S,
            lingering_time=1.0, auto_decompress=False, shutdown_timeout=SHUTDOWN_S,
        )  # fmt: skip
        await runner.setup()
        assert runner.server is not None
        assert self._socket is not None
        connections, server = self._app[CONNECTIONS], runner.server
        listening = await self._loop.create_server(lambda: connections.accept(server), sock=self._socket)
        sweeping = asyncio.create_task(connections.sweep(server))
        self._ready.set()
        await self._closing.wait()
        sweeping.cancel()
        listening.close()
        await runner.cleanup()


class _Counting(logging.Handler):
    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self._faults = faults

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if isinstance(error, ConnectionError):  # a client that went away
            return
        self._faults("http_malformed", f"{type(error).__name__}: {error!s:.100}" if error else record.getMessage())


def _counting_logger(faults: Faults) -> logging.Logger:
    """What aiohttp tells of requests that are no HTTP: counted, and not written to the log 1000 times a second."""
    logger = logging.Logger("siamtrt.http")
    logger.addHandler(_Counting(faults))
    return logger


def _tcp_socket(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address, family=family)  # type: ignore[arg-type]
    except (OSError, UnicodeError) as error:
        raise _no_place(f"{host}:{port}", error, "another host or port; port 0 is any that is free") from error


def _unix_socket(path: Path) -> socket.socket:
    """A socket only this user may connect to; one that a crash left behind is replaced, any other file is not."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_dead(path)
        listening.bind(str(path))
        path.chmod(0o600)  # before it listens: until then nobody gets in
        listening.listen()
    except OSError as error:
        listening.close()
        raise _no_place(str(path), error, "another path") from error
    return listening


def _remove_dead(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(errno.EEXIST, "a file that is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except OSError:
            pass
    raise FileExistsError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _no_place(place: str, error: Exception, other: str) -> ServiceError:
    reason = getattr(error, "strerror", None) or error
    return ServiceError(
        "cannot listen", received=f"{place} ({reason})", expected="a free address of this machine",
        fix=f"stop what uses it, or choose {other}",
    )
