"""Videos, folders, boxes and output names the command line must refuse without leaving anything behind."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from siamtrt.errors import SiamtrtError, SourceError
from siamtrt.files import staged_directory, staged_file
from siamtrt.runtime.sources import open_source


def write_video(path, frames):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30.0, (320, 240))
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


@pytest.fixture
def track(fails, tiny_bundle, short_video, work):
    """`track` on a source with both outputs and the right box; it must fail."""

    def run(source, *options):
        outputs = "--boxes", work / "boxes.csv", "--save", work / "video.mp4"
        return fails("track", tiny_bundle, source, "--init", short_video.init, *outputs, *options)

    return run


@pytest.mark.parametrize(
    ("name", "content"),
    [("text.mp4", b"this is not a video\n" * 50), ("empty.mp4", b""), ("noise.mkv", bytes(range(256)) * 40)],
    ids=["text", "empty", "noise"],
)
def test_file_that_is_no_video(fails_in_shell, tiny_bundle, tmp_path, name, content):
    """In a process of its own: the decoders' own lines stay out of stderr."""
    (tmp_path / name).write_bytes(content)
    message = fails_in_shell("track", tiny_bundle, tmp_path / name, "--init", "9,9,9,9", "--boxes", "b.csv")
    assert message.startswith("unreadable video")
    assert f"{name} ({len(content)} bytes)" in message


def test_video_cut_before_its_index(track, short_video, tmp_path):
    whole = tmp_path / "whole.mp4"
    writer = cv2.VideoWriter(str(whole), cv2.VideoWriter_fourcc(*"mp4v"), 30.0, (320, 240))
    for frame in short_video.frames:
        writer.write(frame)
    writer.release()
    (tmp_path / "cut.mp4").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert track(tmp_path / "cut.mp4").startswith("unreadable video")


@pytest.mark.parametrize("count", [0, 1])
def test_video_too_short(track, fails, tiny_bundle, short_video, tmp_path, work, count):
    path = write_video(tmp_path / "short.avi", short_video.frames[:count])
    assert f"{count} frame" in track(path)
    fails("bench", tiny_bundle, path, "--init", short_video.init, "-o", work / "report")


@pytest.mark.parametrize("count", [0, 1])
def test_folder_too_short(track, images, count):
    for path in sorted(images.iterdir())[count:]:
        path.unlink()
    assert track(images).startswith("nothing to track")


@pytest.mark.parametrize(
    "source", ["absent.mp4", "rtsp://127.0.0.1:9/x", "x" * 300 + ".mp4"], ids=["path", "url", "long"]
)
def test_missing_source(track, source):
    assert source in track(source)


@pytest.mark.parametrize(
    "source", ["rtsp://me:secret@127.0.0.1:9/x", "gopher://me:secret@host/x", "rtspsrc user-pw=secret ! decodebin"],
    ids=["url", "scheme", "pipeline"],
)  # fmt: skip
def test_passwords_are_not_shown(track, source):
    assert "secret" not in track(source)


@pytest.mark.parametrize("index", ["9999", "99999999999999999999"])
def test_missing_camera(track, index):
    assert track(index).startswith(f"camera does not open: received index {index}")


def test_source_errors_are_source_errors(refused, tmp_path):
    for source in (tmp_path / "absent", tmp_path):
        with refused(SourceError, str(tmp_path)):
            list(open_source(source))


def png_header(width, height):
    """A PNG that claims a size and holds no pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    return b"\x89PNG\r\n\x1a\n" + chunk


@pytest.mark.parametrize("content", [b"", b"text", png_header(10**5, 10**5)], ids=["empty", "text", "30 GB claimed"])
def test_corrupt_image_midway(track, images, content):
    """Frames 0 to 2 are tracked and written before the fourth fails: neither output may remain."""
    (images / "3.png").write_bytes(content)
    message = track(images)
    assert message.startswith("unreadable image")
    assert str(images / "3.png") in message


def test_frame_size_that_changes_midway(track, fails, tiny_bundle, short_video, images, work):
    cv2.imwrite(str(images / "3.png"), np.zeros((120, 160, 3), np.uint8))
    assert "received 160x120; expected 320x240" in track(images)
    fails("bench", tiny_bundle, images, "--init", short_video.init, "--warm-up", "0", "-o", work / "report")


@pytest.mark.parametrize(
    "init", ["a,b,c,d", "1,2,3", "1,2,3,4,5", "", "1;2;3;4", "nan,1,9,9", "1,1,inf,9", "9,9,0,9", "9,9,-9,9",
             "320,9,9,9", "0,0,1e300,1e300", "0,0,99999,99999", "1,1,1e-300,1e-300"],
)  # fmt: skip
@pytest.mark.parametrize("command", ["track", "bench"])
def test_bad_init(fails, tiny_bundle, images, work, command, init):
    outputs = {"track": ("--boxes", work / "b.csv", "--save", work / "v.mp4"), "bench": ("-o", work / "report")}
    assert "box" in fails(command, tiny_bundle, images, f"--init={init}", *outputs[command])


@pytest.mark.parametrize("options", [(), ("--init=9,9,9,9", "--show")], ids=["no init", "show"])
def test_no_display(fails_in_shell, tiny_bundle, images, options):
    message = fails_in_shell("track", tiny_bundle, images, "--boxes", "b.csv", *options)
    assert message.startswith("no display")
    assert "--init" in message.partition("Fix:")[2]


@pytest.mark.parametrize("name", ["v.gif", "v", "v.mp4.txt"])
def test_unknown_suffix(fails, tiny_bundle, images, work, name):
    message = fails("track", tiny_bundle, images, "--init", "60,80,40,40", "--save", work / name)
    assert message == (
        f"unknown video format: received {name}; expected .mp4 or .avi or .mkv. "
        "Fix: name the file with one of these suffixes"
    )


@pytest.mark.parametrize("name", ["absent/v.mp4", "file/v.mp4", "x" * 300 + ".mp4"], ids=["absent", "file", "long"])
@pytest.mark.parametrize("option", ["--save", "--boxes"])
def test_unwritable_output(fails, tiny_bundle, images, work, option, name):
    (work / "file").write_text("keep")
    fails("track", tiny_bundle, images, "--init", "60,80,40,40", option, work / name)


@pytest.mark.parametrize("pair", ["save and boxes", "save and source"])
def test_one_file_twice(fails, tiny_bundle, short_video, work, pair):
    source = write_video(work / "source.avi", short_video.frames)
    save = source if pair == "save and source" else work / "x.avi"
    boxes = work / ("boxes.csv" if pair == "save and source" else "../work/x.avi")
    message = fails("track", tiny_bundle, source, "--init", short_video.init, "--save", save, "--boxes", boxes)
    assert message.startswith("one file twice")


@pytest.mark.parametrize("writer", [staged_file, staged_directory])
def test_operating_system_refuses(refused, work, monkeypatch, writer):
    """Permission denied, a full disk: whatever mkdir and mkstemp raise."""

    def refuse(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    target = work / "x" if writer is staged_file else work / "new" / "x"
    with refused(SiamtrtError, "No space left on device"), writer(target):
        pytest.fail("nothing to write into")
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("options", [("--backend", "torch"), ("--backend", "tensorrt")], ids=["torch", "tensorrt"])
def test_backend_that_cannot_run(track, images, options, monkeypatch):
    monkeypatch.setattr("siamtrt.runtime.engines.find_devices", list)
    track(images, *options)


@pytest.mark.parametrize("count", ["0", "-1", "1000000", "many"])
def test_thread_count_is_refused(tiny_bundle, images, count):
    options = f"--threads={count}", "--init=9,9,9,9"
    command = [sys.executable, "-m", "siamtrt.cli", "track", tiny_bundle, images, *options]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 2
    assert "--threads" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.skipif(os.name != "posix", reason="signals as a terminal and a service manager send them")
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_interrupt_leaves_nothing(tiny_bundle, short_video, work, tmp_path, stop):
    """Stopped once both outputs are being written: exit code 130, one line, no file, no staging file."""
    source = write_video(tmp_path / "long.avi", np.tile(short_video.frames, (100, 1, 1, 1)))  # many seconds of work
    options = ["--init", short_video.init, "--boxes", "b.csv", "--save", "v.mp4", "--threads", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "siamtrt.cli", "track", str(tiny_bundle), str(source), *options],
        cwd=work, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 300
        while len(_growing(work)) < 2 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(_growing(work)) == 2, process.poll()
        process.send_signal(stop)
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 130
    assert (out, err.splitlines()) == ("", ["siamtrt: interrupted, nothing half-written"])
    assert list(work.iterdir()) == []


def _growing(folder: Path) -> list[Path]:
    """The hidden files that the outputs are written to, once the video has begun."""
    staged = [path for path in folder.iterdir() if path.name.startswith(".")]
    return staged if any(path.suffix == ".mp4" and path.stat().st_size > 0 for path in staged) else []
