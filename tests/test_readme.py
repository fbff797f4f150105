"""The README's commands and code run, in its order, in a directory of their own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOT_RUN = r"(?P<skip><!-- not run: (?P<reason>.+?) -->\n)?"
BLOCK = re.compile(NOT_RUN + r"```(?P<language>bash|python)\n(?P<code>.*?)```", re.S)


def _blocks():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return [match.groupdict() for match in BLOCK.finditer(text)]


def test_every_block_runs(tmp_path):
    """From top to bottom, as a reader would: later blocks use what earlier ones made."""
    pytest.importorskip("skimage", reason="the demo clip is cut from scikit-image's photos")
    pytest.importorskip("tensorrt_rtx", reason="the README builds engines")
    weights = tmp_path / "siamtrt" / "weights"
    weights.mkdir(parents=True)
    shutil.copy(ROOT / "siamtrt" / "weights" / "placeholder.safetensors", weights)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    ran = 0
    for block in _blocks():
        if block["skip"]:
            continue
        shell = ["bash", "-euo", "pipefail", "-c"] if block["language"] == "bash" else [sys.executable, "-c"]
        result = subprocess.run(
            [*shell, block["code"]], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert result.returncode == 0, f"{block['code']}\n{result.stdout}\n{result.stderr}"
        ran += 1
    assert ran >= 3
    for left in ("tracked.mp4", "boxes.csv", "report.json", "report.md"):
        assert (tmp_path / "out" / left).stat().st_size > 0, left


def test_skipped_blocks_say_why():
    reasons = [block["reason"] for block in _blocks() if block["skip"]]
    assert all(reason.startswith(("needs ", "installs ")) for reason in reasons)


def test_every_command_is_in_the_readme():
    """Every command of the program is explained."""
    from siamtrt.cli import main

    named = set(re.findall(r"\bsiamtrt ([a-z]+)\b", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert set(main.commands) <= named
