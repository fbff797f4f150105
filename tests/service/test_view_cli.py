"""`siamtrt view`, and the page of a service whose config asks for it."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from click.testing import CliRunner
from service_updates import wait_for

from siamtrt.cli import main
from siamtrt.errors import ServiceError
from siamtrt.service.config import load_config


def test_it_shows_a_video_to_this_machine_until_it_is_stopped(short_video):
    command = [sys.executable, "-m", "siamtrt.cli", "view", str(short_video.path), "--loop", "--port", "0"]
    viewing = subprocess.Popen([*command, "--init", short_video.init], stderr=subprocess.PIPE, text=True)
    with viewing, contextlib.ExitStack() as stack:
        stack.callback(viewing.kill)
        found = re.search(r"http://127\.0\.0\.1:(\d+)/view/$", viewing.stderr.readline())
        viewing.stderr.readline()
        with urllib.request.urlopen(found[0].removesuffix("view/"), timeout=5) as page:  # led on to it
            assert page.url == found[0]
            assert b"<title>siamtrt view</title>" in page.read()
        assert wait_for(lambda: _status(found[0]) not in (None, "idle"))
        time.sleep(1)  # longer than the video
        assert viewing.poll() is None
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", int(found[1])))  # would reach what listens on every address
        start = time.monotonic()
        viewing.send_signal(signal.SIGTERM)
        assert viewing.wait(5) == 0
        assert time.monotonic() - start < 1.5
        assert viewing.stderr.read() == ""


def _status(page):
    """Of the last frame, None before the first."""
    with urllib.request.urlopen(page.replace("view/", "result"), timeout=5) as answer:
        result = json.load(answer)
    return result and result["status"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing.mp4"], "no such source"), (["clip.avi", "--init", "1,2"], "unreadable box"),
        (["clip.avi", "--host", "0.0.0.0"], "No such option"), (["clip.avi", "--port", "70000"], "70000"),
        ([], "SOURCE"),
    ],
    ids=["source", "box", "host", "port", "nothing"],
)  # fmt: skip
def test_bad_input_is_one_line(arguments, said):
    result = CliRunner().invoke(main, ["view", *arguments])
    assert result.exit_code == 2
    assert said in result.output


def test_a_port_in_use_is_told(short_video):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(main, ["view", str(short_video.path), "--port", str(port)])
    assert result.exit_code == 2
    assert f"127.0.0.1:{port}" in result.output
    assert "another host or port; port 0 is any that is free" in result.output
    assert "config" not in result.output  # which this user has not


@pytest.mark.parametrize("http", ["null", "{token_file: token}", "{host: 0.0.0.0, token_file: token}"])
def test_a_service_shows_no_page_beyond_this_machine(tmp_path, http):
    (tmp_path / "token").write_text("0123456789abcdef")
    config = tmp_path / "service.yaml"
    config.write_text(f"source: 0\nview: true\nhttp: {http}\n")
    with pytest.raises(ServiceError, match="view without http"):
        load_config(config)
    config.write_text("source: 0\nview: true\n")
    assert load_config(config).view
