"""Whom the server lets in, and that no client holds up another, the loop, or the end."""

from __future__ import annotations

import contextlib
import json
import socket
import stat
import time

import pytest
from served_loops import first_status, playing, served, streaming
from service_loops import BOX, frame_of
from service_updates import update_of, wait_for

from siamtrt.benchmarks.serve_process import ask, connected, control
from siamtrt.errors import ServiceError
from siamtrt.service import http_guard, http_streams
from siamtrt.service.faults import Faults
from siamtrt.service.http_guard import Access
from siamtrt.service.http_server import HttpServer

TOKEN = "a-token-of-24-characters"
START = {"command": "start", "box": list(BOX)}


class TestAccess:
    @pytest.mark.parametrize("path", ["/health", "/metrics", "/result", "/results"])
    @pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "", "[::1", "a@b"])
    def test_other_names(self, run, address, path, host):
        """A page whose name was made to resolve to this machine says its own name."""
        answer = ask(address, path, Host=host)
        assert (answer.status, answer.json["error"]) == (403, "not addressed to this service")
        assert run.counts() == {"http_refused": 1}

    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8765", "[::1]:80"])
    def test_own_names(self, address, host):
        assert ask(address, "/metrics", Host=host).status == 200

    @pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:1", "http://[", "file://"])
    def test_pages_of_other_sites(self, run, address, origin):
        assert control(address, START, Host="localhost:8765", Origin=origin).status == 403
        assert ask(address, "/results", Host="localhost:8765", Origin=origin).status == 403
        assert run.counts() == {"http_refused": 2}

    def test_pages_of_its_own(self, address):
        page = {"Host": "localhost:8765", "Origin": "http://localhost:8765"}
        assert control(address, {"command": "stop"}, **page).status == 200

    @pytest.mark.parametrize(
        "given", [None, "", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN,
                  "Bearer \xfc\xff"],
        ids=range(9),
    )  # fmt: skip
    def test_without_the_token(self, run, given):
        """Health alone, without details."""
        headers = {} if given is None else {"Authorization": given}
        with served(run, Access(TOKEN, None)) as address:
            run.step()
            assert ask(address, "/health", **headers).json == {"healthy": True}
            for path in ("/metrics", "/result", "/results", "/nothing"):
                answer = ask(address, path, **headers)
                assert answer.status == 401
                assert TOKEN.encode() not in answer.body
            assert control(address, {"command": "stop"}, **headers).status == 401
        assert run.counts() == {"http_refused": 5}
        assert TOKEN not in run.faults.seen()[0].detail

    def test_with_the_token(self, run):
        with served(run, Access(TOKEN, None)) as address:
            run.step()
            bearer = {"Authorization": f"Bearer {TOKEN}", "Host": "camera.local"}
            assert ask(address, "/health", **bearer).json["model"] == "quick"
            assert ask(address, "/result", **bearer).status == 200
            assert control(address, {"command": "stop"}, **bearer).status == 200

    @pytest.mark.parametrize(("method", "path"), [("GET", "/control"), ("POST", "/health"), ("GET", "/../etc/passwd")])
    def test_nothing_else(self, run, address, method, path):
        answer = ask(address, path, method=method)
        assert answer.status in (404, 405)
        assert answer.json["fix"]
        assert run.counts() == {"http_refused": 1}


def long_update(number):
    """A result of 20 kB: a few of them fill the buffers of a socket."""
    update = update_of(number)
    object.__setattr__(update, "encoded", lambda: json.dumps({"frame": number, "text": "x" * 20_000}).encode())
    return update


class TestHangingClients:
    """None of them keeps results from coming, others from their answers, or the server from its end."""

    def test_a_scraper_that_never_reads(self, run, address):
        links = [connected(address) for _ in range(5)]
        for link in links:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            link.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200)
        assert wait_for(lambda: ask(address, "/result").json)
        before = ask(address, "/result").json["frame"]
        for _ in range(3):
            now = ask(address, "/result").json["frame"]
            assert wait_for(lambda now=now: run.loop.snapshot().last.number > now + 5, 1.0)
        assert ask(address, "/result").json["frame"] > before + 15
        assert run.counts() == {}
        for link in links:
            link.close()

    def test_a_reader_too_slow_for_the_results_is_cut_off(self, run, monkeypatch):
        monkeypatch.setattr(http_streams, "MOST_LINES", 8)
        monkeypatch.setattr(http_streams, "MOST_STREAMS", 2)
        monkeypatch.setattr(http_streams, "LOOK_S", 0.05)
        with served(run) as address, connected(address) as slow, connected(address) as quick:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            streaming(slow)
            lines = streaming(quick)
            for number in range(400):
                run.loop._tell(long_update(number), frame_of())
                assert json.loads(next(lines))["frame"] == number
                if run.counts():
                    break
            assert run.counts() == {"http_slow_client": 1}
            assert wait_for(lambda: first_status(address, "/results") == 200)  # its place is free
            run.loop._tell(update_of(number + 1), frame_of())
            assert json.loads(next(lines))["frame"] == number + 1

    def test_a_request_sent_byte_by_byte(self, run, monkeypatch):
        monkeypatch.setattr(http_guard, "IDLE_S", 0.2)
        monkeypatch.setattr(http_guard, "SWEEP_S", 0.05)
        with served(run) as address, connected(address) as link, contextlib.suppress(ConnectionError):
            for letter in b"GET /metrics HTTP/1.1\r\nHost: " + b"x" * 1000:
                link.sendall(bytes([letter]))
                if run.counts():
                    break
                time.sleep(0.01)
        assert run.counts() == {"http_idle": 1}

    def test_answers_that_nobody_reads(self, run, monkeypatch):
        monkeypatch.setattr(http_guard, "IDLE_S", 0.5)
        monkeypatch.setattr(http_guard, "SWEEP_S", 0.05)
        with served(run) as address, connected(address) as link:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            link.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                link.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000)
            assert wait_for(lambda: run.counts())
        assert run.counts() == {"http_slow_client": 1}

    def test_a_connection_kept_for_the_next_request_is_no_fault(self, run, monkeypatch):
        monkeypatch.setattr(http_guard, "IDLE_S", 0.1)
        monkeypatch.setattr(http_guard, "SWEEP_S", 0.05)
        with served(run) as address, connected(address) as link:
            link.sendall(b"GET /result HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert link.recv(1000).startswith(b"HTTP/1.1 200")
            with contextlib.suppress(ConnectionResetError):
                assert link.recv(1000) == b""
        assert run.counts() == {}

    def test_a_connection_in_use_stays(self, run, monkeypatch):
        monkeypatch.setattr(http_guard, "IDLE_S", 0.3)
        monkeypatch.setattr(http_guard, "SWEEP_S", 0.02)
        with served(run) as address, connected(address) as link:
            for _ in range(12):
                link.sendall(b"GET /result HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert link.recv(1000).startswith(b"HTTP/1.1 200")
                time.sleep(0.05)

    def test_more_connections_than_there_may_be(self, run, monkeypatch):
        """The one that has been idle for longest makes room."""
        monkeypatch.setattr(http_guard, "MOST_CONNECTIONS", 4)
        with served(run) as address:
            links = []
            for _ in range(12):
                links.append(connected(address))
                assert ask(address, "/result").status == 200
            assert run.counts()["http_connections"] >= 8
            for link in links:
                link.close()

    def test_streams_are_never_closed_for_others(self, run, monkeypatch):
        monkeypatch.setattr(http_guard, "MOST_CONNECTIONS", 1)
        with served(run) as address, connected(address) as link:
            lines = streaming(link)
            with pytest.raises(OSError):  # noqa: PT011 -- closed at once, or reset
                ask(address, "/result")
            run.step()
            assert json.loads(next(lines))["frame"] == 0

    @pytest.mark.parametrize(
        "garbage",
        [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\0" * 100,
         b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
         b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5_000 + b"\r\n"],
        ids=["tls", "short", "version", "zeros", "length", "line", "headers"],
    )  # fmt: skip
    def test_what_is_no_http(self, run, address, garbage):
        with connected(address) as link:
            link.sendall(garbage)
            with contextlib.suppress(ConnectionError):
                while link.recv(4096):
                    pass
        assert wait_for(run.counts)
        assert set(run.counts()) == {"http_malformed"}
        assert ask(address, "/result").status == 200

    def test_the_end_while_everybody_waits(self, run):
        """A stream that nobody reads, a command without a frame, half a request; `served` looks at the clock."""
        body = json.dumps(START).encode()
        head = "POST /control HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        command = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        opened = []
        with served(run) as address:
            for _ in range(3):
                opened.append(connected(address))
                streaming(opened[-1])
                for request in (command, command[:-5], b"GET / HT"):
                    opened.append(connected(address))
                    opened[-1].sendall(request)
            time.sleep(0.1)
        for link in opened:
            link.close()
        assert run.counts() == {}


@contextlib.contextmanager
def served_at(place):
    faults = Faults()
    server = HttpServer(http_guard.guarded_app(Access(), faults), place, faults)
    try:
        server.start()
        yield
    finally:
        server.close()
        assert server.ended(3)


class TestPlaces:
    def test_a_port_in_use(self, run):
        with served(run) as address:
            port = int(address.rsplit(":", 1)[1])
            with pytest.raises(ServiceError, match=f"cannot listen: received 127.0.0.1:{port}"):
                HttpServer(http_guard.guarded_app(Access(), run.faults), ("127.0.0.1", port), run.faults).start()

    @pytest.mark.parametrize("host", ["192.0.2.1", "nowhere.invalid", "a..b", "x" * 300])
    def test_a_host_that_is_not_this_machine(self, host):
        with pytest.raises(ServiceError, match="cannot listen"), served_at((host, 0)):
            pass

    def test_ipv6(self, run):
        if not socket.has_ipv6:
            pytest.skip("no IPv6")
        with served(run, place=("::1", 0)) as address:
            assert address.startswith("http://[::1]:")
            assert ask(address, "/result", Host="[::1]").status == 200

    def test_a_unix_socket(self, run, tmp_path):
        """For this user alone, without a token, and gone at the end."""
        path = tmp_path / "api.sock"
        with playing(run), served(run, Access(None, None), path) as address:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert ask(address, "/result", Host="whatever").status == 200
            assert control(address, START).json == {"box_xywh": list(BOX)}
        assert not path.exists()

    def test_a_socket_that_a_crash_left_behind(self, run, tmp_path):
        path = tmp_path / "api.sock"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        with served(run, Access(None, None), path) as address:
            assert ask(address, "/result").status == 200

    def test_a_socket_that_lives(self, run, tmp_path):
        path = tmp_path / "api.sock"
        with served(run, Access(None, None), path) as address:
            with pytest.raises(ServiceError, match="in use"), served_at(path):
                pass
            assert ask(address, "/result").status == 200

    @pytest.mark.parametrize("kind", ["file", "folder", "link", "link to a dead socket"])
    def test_other_files_are_left_alone(self, tmp_path, kind):
        path, real = tmp_path / "api.sock", tmp_path / "real"
        if kind == "folder":
            path.mkdir()
        elif kind == "file":
            path.write_text("precious")
        else:
            path.symlink_to(real)
            with socket.socket(socket.AF_UNIX) as dead:
                real.write_text("precious") if kind == "link" else dead.bind(str(real))
        before = sorted(tmp_path.iterdir())
        with pytest.raises(ServiceError, match="no socket"), served_at(path):
            pass
        assert sorted(tmp_path.iterdir()) == before
        assert kind != "file" or path.read_text() == "precious"

    def test_a_place_that_cannot_be(self, tmp_path):
        for path in (tmp_path / "no" / "api.sock", tmp_path / ("x" * 200)):
            with pytest.raises(ServiceError, match="cannot listen"), served_at(path):
                pass
        assert list(tmp_path.iterdir()) == []

    def test_another_socket_of_that_name_is_left_alone(self, run, tmp_path):
        """Which took its place meanwhile."""
        path = tmp_path / "api.sock"
        with served(run, Access(None, None), path):
            path.unlink()
            path.write_text("precious")
        assert path.read_text() == "precious"
