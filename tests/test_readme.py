"""The commands and code of the README and of docs/jetson.md run, in their order, in a directory of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

# One worker, as both documents' readers share what they make; and a group begins before what has none, so that the
# other worker has enough left to do meanwhile.
pytestmark = pytest.mark.xdist_group("readme")

ROOT = Path(__file__).parents[1]
NOT_RUN = r"(?P<skip><!-- not run: (?P<reason>.+?) -->\n)?"
BLOCK = re.compile(NOT_RUN + r"```(?P<language>bash|python)\n(?P<code>.*?)```", re.S)


def _blocks(document="README.md"):
    text = (ROOT / document).read_text(encoding="utf-8")
    return [match.groupdict() for match in BLOCK.finditer(text)]


@dataclass
class Reader:
    """Runs documents' blocks from top to bottom in one folder: later blocks use what earlier ones made.

    A block whose every command has run for another document is not run again.
    """

    folder: Path
    done: set[str] = field(default_factory=set)

    def follow(self, document):
        """Returns what each block printed, nothing for one that was not run again."""
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        printed, ran = [], set()
        for block in _blocks(document):
            if block["skip"]:
                continue
            code, commands = block["code"], _commands(block)
            ran |= commands
            if commands <= self.done:
                printed.append("")
                continue
            shell = ["bash", "-euo", "pipefail", "-c"] if block["language"] == "bash" else [sys.executable, "-c"]
            result = subprocess.run(
                [*shell, code], cwd=self.folder, env=environment, capture_output=True, text=True, timeout=900
            )
            assert result.returncode == 0, f"{code}\n{result.stdout}\n{result.stderr}"
            printed.append(result.stdout)
        self.done |= ran
        return printed


def _commands(block):
    """A shell's lines without their comments; Python's code is one command."""
    if block["language"] == "python":
        return {block["code"]}
    return {re.sub(r"\s+#.*", "", line) for line in block["code"].splitlines()}


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    pytest.importorskip("skimage", reason="the demo clip is cut from scikit-image's photos")
    return Reader(tmp_path_factory.mktemp("reader"))


def test_every_block_runs(reader):
    pytest.importorskip("tensorrt_rtx", reason="the README builds engines")
    assert len(reader.follow("README.md")) >= 3
    for left in ("tracked.mp4", "boxes.csv", "report.json", "report.md"):
        assert (reader.folder / "out" / left).stat().st_size > 0, left


def test_every_block_for_a_jetson_runs_that_can_run_here(reader):
    onnx = pytest.importorskip("onnx", reason="needs the export extra")
    printed = reader.follow("docs/jetson.md")
    assert len(printed) == 3
    assert re.fullmatch(r"(-?\d+,){3}\d+ score [01]\.\d\d, \d+\.\d ms an update\n", printed[-1]), printed[-1]
    assert len((reader.folder / "out" / "cpu.csv").read_text().splitlines()) > 100
    graph = onnx.load(reader.folder / "out" / "default" / "search.onnx")
    opset = next(entry.version for entry in graph.opset_import if not entry.domain)
    text = (ROOT / "docs" / "jetson.md").read_text(encoding="utf-8")
    assert f"writes opset {opset}, and the correlation is an ONNX local function" in text
    assert [function.domain for function in graph.functions] == ["siamtrt"]


def test_tensorrt_rtx_has_no_jetson():
    """As docs/jetson.md says."""
    rtx = pytest.importorskip("tensorrt_rtx", reason="needs the rtx extra")
    assert not {"SM87", "SM101", "SM110"} & set(rtx.ComputeCapability.__members__)


def test_python_versions_agree():
    minimum = re.search(r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert minimum
    assert f"siamtrt needs Python {minimum[1]} or later" in (ROOT / "docs" / "jetson.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("document", ["README.md", "docs/jetson.md"])
def test_skipped_blocks_say_why(document):
    reasons = [block["reason"] for block in _blocks(document) if block["skip"]]
    assert all(reason.startswith(("needs ", "installs ")) for reason in reasons)


def test_every_command_is_in_the_readme():
    """Every command of the program is explained."""
    from siamtrt.cli import main

    named = set(re.findall(r"\bsiamtrt ([a-z]+)\b", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert set(main.commands) <= named
