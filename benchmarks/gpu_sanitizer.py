"""The kernels' checks again under compute-sanitizer, where it is installed.

`python -m siamtrt.benchmarks.gpu_sanitizer` is what runs under it.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
LIMIT_S = 40.0  # a tool; four of them leave five minutes of the benchmark's eight
FOUND, WRONG = 9, 3  # exit codes: the sanitizer has errors to report; a kernel is off its reference
SUMMARY = re.compile(r"(?:ERROR|RACECHECK) SUMMARY: (\d+) ")
CHECKS = (sys.executable, "-m", "siamtrt.benchmarks.gpu_sanitizer")


@dataclass(frozen=True)
class SanitizerRun:
    """One tool of compute-sanitizer over the kernels' checks.

    Attributes:
        version: of compute-sanitizer.
        errors: errors, or hazards of racecheck; None where it printed no summary.
        exit_code: 0, `FOUND`, `WRONG` or another program's; None where it was stopped after `LIMIT_S` seconds.
        seconds: it took.
        last_line: of its output, for a run that failed otherwise.
    """

    tool: str
    version: str
    errors: int | None
    exit_code: int | None
    seconds: float
    last_line: str

    @property
    def passed(self) -> bool:
        """It ran to its end and found nothing."""
        return self.exit_code == 0 and self.errors == 0


def find_sanitizer() -> str | None:
    """Path of compute-sanitizer: on PATH, or where CUDA's toolkit has it."""
    places = [os.environ.get("PATH", ""), os.path.expandvars("$CUDA_HOME/bin"), "/usr/local/cuda/bin"]
    return shutil.which("compute-sanitizer", path=os.pathsep.join(places))


def run_sanitizer(
    program: str, tools: Sequence[str] = TOOLS, checks: Sequence[str] = CHECKS, limit_s: float = LIMIT_S
) -> list[SanitizerRun]:
    """Run every tool over the checks, one after another.

    Args:
        program: compute-sanitizer.
        checks: the command to run under it.
        limit_s: seconds after which a tool is stopped.
    """
    found = re.search(r"Version\s+(\S+)", _output([program, "--version"], limit_s)[1])
    version = found.group(1) if found else "unknown"
    return [_run_tool(program, version, tool, checks, limit_s) for tool in tools]


def _run_tool(program: str, version: str, tool: str, checks: Sequence[str], limit_s: float) -> SanitizerRun:
    start = time.perf_counter()
    code, text = _output([program, "--tool", tool, "--error-exitcode", str(FOUND), *checks], limit_s)
    counts = [int(count) for count in SUMMARY.findall(text)]
    last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
    seconds = round(time.perf_counter() - start, 1)
    return SanitizerRun(tool, version, sum(counts) if counts else None, code, seconds, last)


def _output(command: Sequence[str], limit_s: float) -> tuple[int | None, str]:
    """Exit code and output of a command; it and its children are stopped, and the code is None, after the limit."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True
    ) as process:
        try:
            text, _ = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return None, process.communicate()[0]
        return process.returncode, text


def main() -> None:
    """Check the kernels with memory of their own for every buffer, so that a write beside one is seen."""
    import cupy

    from siamtrt.benchmarks.gpu import check_kernels
    from siamtrt.kernels.cupy_device import CupyDevice

    cupy.cuda.set_allocator(None)  # CuPy's pool hands out parts of larger blocks
    wrong = [check for check in check_kernels(CupyDevice()) if not check.passed]
    for check in wrong:
        print(f"{check.kernel} is off by {check.error:.2e}, limit {check.limit:g}")
    raise SystemExit(WRONG if wrong else 0)


if __name__ == "__main__":
    main()
