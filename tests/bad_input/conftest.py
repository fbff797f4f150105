"""How bad input must fail: one line of four parts, exit code 2, nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from folders import snapshot

from siamtrt.cli import main
from siamtrt.errors import SiamtrtError

PROGRESS = " ..."  # how `export` ends the line of a step it begins


def assert_four_parts(message: str) -> None:
    """What, received, expected and fix, in this order, none empty, on one line."""
    assert len(message.splitlines()) == 1
    what, rest = message.split(": received ", 1)
    received, rest = rest.rsplit("; expected ", 1)
    expected, fix = rest.split(". Fix: ", 1)
    assert all(part.strip() for part in (what, received, expected, fix))


def only_message(stdout: str, stderr: str) -> str:
    """The one line on stderr, progress aside, without the program's name."""
    lines = [line for line in stderr.splitlines() if not line.endswith(PROGRESS)]
    assert len(lines) == 1, stderr
    assert lines[0].startswith("siamtrt: ")
    assert stdout == ""
    message = lines[0].removeprefix("siamtrt: ")
    assert_four_parts(message)
    return message


def without_display() -> dict[str, str]:
    """This environment as a machine without a desktop has it, one thread each for the libraries."""
    kept = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    return {**kept, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """The empty directory that outputs go to and that must stay as it was."""
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def fails(work: Path) -> Callable[..., str]:
    """Run the command line in this process; it must fail as bad input does. Returns the message."""

    def run(*arguments: object) -> str:
        before = snapshot(work)
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code == 2, (result.exit_code, result.output, result.exception)
        assert isinstance(result.exception, SystemExit)
        assert snapshot(work) == before
        return only_message(result.stdout, result.stderr)

    return run


@pytest.fixture
def fails_in_shell(work: Path) -> Callable[..., str]:
    """The same through a process of its own, so that what C libraries print is seen too."""

    def run(*arguments: object, timeout_s: float = 300) -> str:
        before = snapshot(work)
        command = [sys.executable, "-m", "siamtrt.cli", *map(str, arguments)]
        result = subprocess.run(
            command, capture_output=True, text=True, cwd=work, env=without_display(), timeout=timeout_s, check=False
        )
        assert result.returncode == 2, (result.returncode, result.stderr)
        assert snapshot(work) == before
        return only_message(result.stdout, result.stderr)

    return run


@pytest.fixture
def refused() -> Callable[..., Any]:
    """`with refused(BoxError, "outside") as caught:` the block must raise exactly that error, saying so."""

    @contextmanager
    def check(kind: type[SiamtrtError], text: str) -> Iterator[pytest.ExceptionInfo[SiamtrtError]]:
        with pytest.raises(kind) as caught:
            yield caught
        assert type(caught.value) is kind
        assert_four_parts(str(caught.value))
        assert text in str(caught.value)

    return check


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle that a test may spoil."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "tiny"))


@pytest.fixture
def edit_manifest(bundle: Path) -> Callable[[Callable[[dict[str, Any]], None]], Path]:
    """Change the parsed manifest of `bundle` in place; returns the bundle."""

    def edit(change: Callable[[dict[str, Any]], None]) -> Path:
        path = bundle / "manifest.json"
        manifest = json.loads(path.read_text())
        change(manifest)
        path.write_text(json.dumps(manifest))
        return bundle

    return edit


@pytest.fixture
def images(short_video: Any, tmp_path: Path) -> Path:
    """A folder of six frames of the short video as PNG files 0.png to 5.png."""
    folder = tmp_path / "images"
    folder.mkdir()
    for index, frame in enumerate(short_video.frames[:6]):
        cv2.imwrite(str(folder / f"{index}.png"), np.ascontiguousarray(frame))
    return folder
