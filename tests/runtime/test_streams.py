"""Streams of the network, real ones over the loopback, and what a SOURCE may be."""

from __future__ import annotations

import itertools
import threading
import time
import traceback
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("av", reason="needs the stream extra")
from click.testing import CliRunner
from stream_servers import (
    FPS,
    free_udp_port,
    grey_frames,
    hold,
    send_jpegs,
    serve_rtsp,
    serving,
    transport_stream,
    udp_sender,
)

from siamtrt.cli import main
from siamtrt.errors import SourceError
from siamtrt.runtime import urls
from siamtrt.runtime.live import LIVE, LiveFeed, open_feed
from siamtrt.runtime.origins import gstreamer_pipeline, origin_of
from siamtrt.runtime.sources import open_source
from siamtrt.runtime.urls import redacted

SOON_S = 20.0
LOGIN = "me:secret"
QUICK = replace(LIVE, pauses=lambda: itertools.repeat(0.01))
FRAMES = grey_frames(range(20, 230, 7))  # 30: three key frames and nine after each
STREAM = transport_stream(FRAMES)
DESCRIPTORS = Path("/proc/self/fd")

SENDERS = {
    "tcp": lambda connection: connection.sendall(STREAM),
    "http": lambda connection: send_jpegs(connection, FRAMES),
    "rtsp": lambda connection: serve_rtsp(connection, STREAM, LOGIN),
}


def cut_after_each(scheme, cuts):
    """Answers so many connections with a few frames each, and those after them with frames and silence."""

    def answer(connection, number):
        SENDERS[scheme](connection)
        if number >= cuts:
            hold(connection)

    return answer


@pytest.fixture
def faults():
    return []


@pytest.fixture
def open_live(faults):
    """Opens a live feed of a URL with short pauses; closes it at the end."""
    feeds = []

    def run(url, rules=QUICK):
        feeds.append(LiveFeed(origin_of(url), lambda *fault: faults.append(fault), rules=rules))
        return feeds[-1]

    yield run
    for feed in feeds:
        feed.close()


def until(condition, feed=None):
    deadline = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < deadline
        if feed:
            feed.newest(0.0)
        time.sleep(0.005)


@pytest.mark.parametrize("scheme", sorted(SENDERS))
def test_a_stream_cut_20_times(open_live, faults, scheme):
    with serving(cut_after_each(scheme, 20)) as server:
        feed = open_live(f"{scheme}://{LOGIN}@127.0.0.1:{server.port}/stream")
        first = feed.newest(SOON_S)
        until(lambda: feed.counts()["reconnects"] == 20)
        last = feed.newest(SOON_S)
        counts = feed.counts()
        feed.close()
    assert first.frame.shape == (120, 160, 3)
    assert last.number > 20
    assert last.gap_s > 0
    assert counts["gap_seconds"] > last.gap_s / 2
    assert Counter(kind for kind, _ in faults) == {"stream_lost": 20}
    assert "secret" not in feed.name + str(faults)


def test_frames_are_those_that_were_sent(open_live):
    with serving(lambda connection, _: (connection.sendall(STREAM), hold(connection))) as server:
        feed = open_live(f"tcp://127.0.0.1:{server.port}")
        assert (feed.fps, feed.live, feed.newest(SOON_S).gap_s) == (FPS, True, 0.0)
        until(lambda: feed.counts()["captured"] >= 20)
        newest = feed.newest(SOON_S)
        assert np.abs(newest.frame.astype(int) - FRAMES[newest.number]).max() < 8
        feed.close()


@pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="counts file descriptors in /proc")
def test_fifty_reconnections_leave_nothing_open():
    with serving(cut_after_each("tcp", 0)) as server:
        open_feed(f"tcp://127.0.0.1:{server.port}").close()  # whatever the libraries open once
    descriptors, threads = len(list(DESCRIPTORS.iterdir())), threading.active_count()
    with serving(cut_after_each("tcp", 50)) as server:
        feed = LiveFeed(origin_of(f"tcp://127.0.0.1:{server.port}"), rules=QUICK)
        until(lambda: feed.counts()["reconnects"] == 50)
        feed.close()
    until(lambda: len(list(DESCRIPTORS.iterdir())) <= descriptors and threading.active_count() <= threads)


def test_a_server_that_goes_away_and_comes_back(open_live, faults):
    with serving(cut_after_each("tcp", 0)) as server:
        feed = open_live(f"tcp://127.0.0.1:{server.port}")
        feed.newest(SOON_S)
    until(lambda: len(faults) >= 4)
    with serving(cut_after_each("tcp", 0), server.port):
        until(lambda: feed.counts()["reconnects"] == 1)
        assert feed.newest(SOON_S).gap_s == pytest.approx(feed.counts()["gap_seconds"])
        feed.close()
    assert [kind for kind, _ in faults[:4]] == ["stream_lost"] + 3 * ["reconnect_failed"]
    assert "Connection refused" in faults[1][1]


def test_a_server_that_falls_silent(open_live, faults):
    with serving(cut_after_each("tcp", 0)) as server:
        feed = open_live(f"tcp://127.0.0.1:{server.port}", replace(QUICK, stall_s=0.2))
        until(lambda: feed.counts()["reconnects"] == 1, feed)
        feed.close()
    assert faults[0][0] == "stream_stalled"


def test_udp(open_live, faults):
    port = free_udp_port()
    with udp_sender(port, STREAM, len(FRAMES) / FPS):
        feed = open_live(f"udp://127.0.0.1:{port}")
        numbers = [feed.newest(SOON_S).number for _ in range(15)]
        feed.close()
    assert numbers == sorted(set(numbers))
    assert not [fault for fault in faults if fault[0] != "frame_corrupt"]


def test_damaged_frames_are_dropped_and_named(open_live, faults):
    """Every 50th byte is another one; the packets' headers are whole."""
    damaged = bytearray(transport_stream([np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)] * 30))
    start = len(damaged) // 10
    for at in range(start, len(damaged), 50):
        if at % 188 > 30:
            damaged[at] ^= 0xA5
    with serving(lambda connection, _: (connection.sendall(bytes(damaged)), hold(connection))) as server:
        feed = open_live(f"tcp://127.0.0.1:{server.port}")
        until(lambda: feed.counts()["captured"] >= 25)
        assert feed.newest(SOON_S).frame.shape == (120, 160, 3)
        counts = feed.counts()
        feed.close()
    assert {kind for kind, _ in faults} == {"frame_corrupt"}
    assert 5 < len(faults) <= counts["dropped"]
    details = {detail for _, detail in faults}
    assert len(details) == 2, "frames that were decoded with errors, and packets that were not"
    assert "the decoder marked the frame as corrupt" in details


def test_a_size_that_changes_within_the_stream(open_live):
    both = STREAM + transport_stream(grey_frames(range(20, 220, 20), (320, 240)))
    with serving(lambda connection, _: (connection.sendall(both), hold(connection))) as server:
        feed = open_live(f"tcp://127.0.0.1:{server.port}")
        until(lambda: feed.counts()["captured"] >= 35)
        assert feed.newest(SOON_S).frame.shape == (240, 320, 3)
        feed.close()


@pytest.mark.parametrize("scheme", ["tcp", "http"])
def test_without_pyav_opencv_reads(open_live, faults, monkeypatch, scheme):
    monkeypatch.setattr(urls, "find_spec", lambda name: None)
    with serving(cut_after_each(scheme, 2)) as server:
        feed = open_live(f"{scheme}://127.0.0.1:{server.port}/stream")
        assert feed.newest(SOON_S).frame.shape == (120, 160, 3)
        until(lambda: feed.counts()["reconnects"] == 2)
    with pytest.raises(SourceError, match="stream does not open"):
        open_feed(f"{scheme}://{LOGIN}@127.0.0.1:{server.port}/stream")


def test_track_follows_a_stream(tiny_bundle, short_video, tmp_path):
    """The command itself: through cuts after every third frame, to the end that --max-frames sets."""
    with serving(lambda connection, _: send_jpegs(connection, short_video.frames[:3], 0.05)) as server:
        arguments = [tiny_bundle, f"http://{LOGIN}@127.0.0.1:{server.port}/", f"--init={short_video.init}"]
        options = ["--boxes", tmp_path / "boxes.csv", "--max-frames", 8, "--threads", 1]
        result = CliRunner().invoke(main, ["track", *map(str, [*arguments, *options])])
    assert result.exit_code == 0, result.output
    assert "8 frames" in result.stdout
    assert len((tmp_path / "boxes.csv").read_text().splitlines()) == 1 + 8
    assert "secret" not in result.output


def test_a_source_of_a_url_gives_the_newest_frames_and_names_faults(faults):
    with serving(cut_after_each("rtsp", 1)) as server:
        url = f"rtsp://{LOGIN}@127.0.0.1:{server.port}/stream"
        source = open_source(url, lambda *fault: faults.append(fault))
        assert (source.name, source.live, source.length) == (f"rtsp://***@127.0.0.1:{server.port}/stream", True, None)
        frames = iter(source)
        assert next(frames).shape == (120, 160, 3)
        until(lambda: faults)
        time.sleep(0.5)
        assert np.abs(next(frames).astype(int) - FRAMES[0]).max() > 50, "the first ones are gone"
    assert faults[0] == ("stream_lost", "the stream ended")


def test_a_source_nobody_reads_lets_its_device_go():
    with serving(cut_after_each("tcp", 0)) as server:
        before = threading.active_count()
        source = open_source(f"tcp://127.0.0.1:{server.port}")
        assert threading.active_count() > before
        del source
        until(lambda: threading.active_count() <= before)


def silent(connection, number):
    hold(connection)


def web_page(connection, number):
    connection.recv(4096)
    connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n<html>the camera's own page</html>")


def refusing(connection, number):
    serve_rtsp(connection, STREAM, "another:password")


@pytest.mark.parametrize(
    ("scheme", "answer", "reason"),
    [
        ("tcp", silent, "no answer in time"),
        ("http", silent, "no answer in time"),
        ("http", web_page, "Invalid data|Input/output error"),
        ("rtsp", refusing, "401 Unauthorized"),
        ("tcp", None, "Connection refused"),
        ("rtsp", None, "Connection refused"),
    ],
    ids=["silent tcp", "silent http", "web page", "password", "no tcp server", "no rtsp server"],
)
def test_a_stream_that_does_not_open(faults, monkeypatch, scheme, answer, reason):
    monkeypatch.setattr(urls, "OPEN_TIMEOUT_S", 0.3)
    monkeypatch.setattr(urls, "READ_TIMEOUT_S", 0.3)
    threads = threading.active_count()
    with serving(answer or silent) as server:
        if answer is None:
            server.close()
        url = f"{scheme}://{LOGIN}@127.0.0.1:{server.port}/stream?password=hidden"
        with pytest.raises(SourceError, match=f"stream does not open.*({reason})") as refused:
            open_feed(url, on_fault=lambda *fault: faults.append(fault))
    shown = "".join(traceback.format_exception(refused.value))
    assert not any(word in shown for word in ("secret", "hidden"))
    until(lambda: threading.active_count() <= threads)
    assert faults == []


@pytest.mark.parametrize("url", ["ftp://h/x", "file:///etc/passwd", "concat://a", "RTSPX://me:secret@h"])
def test_schemes_that_are_no_stream(url):
    with pytest.raises(SourceError, match="no stream of this kind is read") as refused:
        open_feed(url)
    assert "secret" not in str(refused.value)


CSI = "nvarguscamerasrc ! video/x-raw(memory:NVMM) ! nvvidconv ! video/x-raw, format=BGRx ! videoconvert"


def test_gstreamer_that_is_not_there():
    """PyPI's OpenCV has none."""
    if cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        pytest.skip("this OpenCV has GStreamer")
    with pytest.raises(SourceError, match="this OpenCV has no GStreamer") as refused:
        open_feed(f"rtspsrc location=rtsp://{LOGIN}@host user-pw=hidden ! {CSI}")
    assert "docs/jetson.md" in refused.value.fix
    assert not any(word in str(refused.value) for word in ("secret", "hidden"))


@pytest.mark.parametrize(
    ("text", "pipeline"),
    [
        (CSI, f"{CSI} ! appsink drop=true max-buffers=1 sync=false"),
        (f"{CSI} ! appsink", f"{CSI} ! appsink"),
        (f"{CSI} ! appsink max-buffers=4", f"{CSI} ! appsink max-buffers=4"),
        (f"{CSI} ! autovideosink sync=false", None),
        (f"{CSI} ! fakesink", None),
    ],
    ids=["added", "there", "with properties", "a window", "nowhere"],
)
def test_pipelines_end_in_an_appsink(monkeypatch, text, pipeline):
    monkeypatch.setattr(cv2.videoio_registry, "hasBackend", lambda backend: True)
    if pipeline:
        assert gstreamer_pipeline(text) == pipeline
    else:
        with pytest.raises(SourceError, match="frames go elsewhere"):
            gstreamer_pipeline(text)


def test_a_pipeline_is_opened_with_gstreamer_and_read_as_a_live_source(monkeypatch, short_video):
    """A file in GStreamer's place: which pipeline is opened, with which backend, and again after its end."""
    opened = []
    capture = cv2.VideoCapture

    def record(*arguments):
        opened.append(arguments)
        return capture(str(short_video.path))

    monkeypatch.setattr(cv2.videoio_registry, "hasBackend", lambda backend: True)
    monkeypatch.setattr(cv2, "VideoCapture", record)
    feed = open_feed(CSI)
    until(lambda: feed.counts()["reconnects"] >= 1)
    feed.close()
    assert feed.live
    assert set(opened) == {(f"{CSI} ! appsink drop=true max-buffers=1 sync=false", cv2.CAP_GSTREAMER)}
    assert len(opened) >= 2


def test_a_file_whose_name_looks_like_a_pipeline(short_video, tmp_path):
    path = tmp_path / "a ! b.avi"
    path.write_bytes(short_video.path.read_bytes())
    assert not open_feed(path).live


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://host:554/stream", "rtsp://host:554/stream"),
        ("rtsp://me:secret@host:554/stream", "rtsp://***@host:554/stream"),
        ("rtsp://me:se@cret@host/x", "rtsp://***@host/x"),
        ("rtsp://me:sec/ret@host/x", "rtsp://***@host/x"),
        ("rtsp:/me:secret@host", "rtsp:/***@host"),
        ("http://host/video?user=me&password=secret&fps=5", "http://host/video?user=***&password=***&fps=5"),
        ("http://host/v?TOKEN=secret&api_key=secret", "http://host/v?TOKEN=***&api_key=***"),
        ("rtsp://host/user=me_password=secret_channel=1", "rtsp://host/user=***"),
        ("rtspsrc location=rtsp://me:secret@h/x latency=0 ! x", "rtspsrc location=rtsp://***@h/x latency=0 ! x"),
        ('rtspsrc user-id=me user-pw="my secret" ! x', "rtspsrc user-id=*** user-pw=*** ! x"),
        ("[Errno 5] gone: 'rtsp://me:secret@h/x'", "[Errno 5] gone: 'rtsp://***@h/x'"),
    ],
)
def test_redacted(text, shown):
    assert redacted(text) == shown
