"""Does a long run stay as it began? `python -m siamtrt.benchmarks.soak VIDEO --init x,y,w,h`.

A real `siamtrt serve` tracks the video over and over, as fast as it can. It writes every result to rotated files and to
a UDP port, where the latencies are read here, and its metrics are read once a second. Its memory, file descriptors and
threads are looked at from outside.
"""

from __future__ import annotations

import json
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import psutil
from tqdm import tqdm

from siamtrt.benchmarks.environment import environment
from siamtrt.benchmarks.serve_process import ServeProcess, ask, served
from siamtrt.boxes import parse_box
from siamtrt.files import write_whole

SETTLED = 1_000  # updates after which memory may no longer grow
LOOK_S = 1.0  # between two looks at the process
GROWTH_BAR_MB, SLOWER_BAR = 2.0, 1.2
SILENT_S = 20.0  # without a result for so long the run is over
FEWEST = 10 * SETTLED
CONFIG = """\
source: {video}
loop: true
{bundle}target: [{box}]
threads: 1
http: {{port: 0}}
outputs:
  jsonl: [{{path: results.jsonl, rotate_mb: 2}}]
  udp: [{{host: 127.0.0.1, port: {port}}}]
"""


@dataclass(frozen=True)
class Look:
    """The process at a moment: results so far, bytes of resident memory, file descriptors, threads."""

    updates: int
    memory: int
    descriptors: int
    threads: int


@dataclass(frozen=True)
class Soak:
    """What a run showed.

    Attributes:
        growth_mb: resident memory of the last tenth less that of the first after `SETTLED` updates, each the median, in
            1e6 bytes.
        descriptors_first, descriptors_last: fewest and most file descriptors in these two tenths; at the video's end
            it is opened again.
        threads: fewest and most after `SETTLED` updates.
        p99_first_ms, p99_last_ms: latency from a frame to its result, in the first and last tenth.
        lost: results that did not come over UDP.
        statuses: results by the target's status.
        faults: by name.
        end_s: from SIGTERM to the end of the process.
    """

    updates: int
    growth_mb: float
    descriptors_first: tuple[int, int]
    descriptors_last: tuple[int, int]
    threads: tuple[int, int]
    p99_first_ms: float
    p99_last_ms: float
    lost: int
    statuses: dict[str, int]
    faults: dict[str, int]
    end_s: float

    @property
    def misses(self) -> list[str]:
        """The bars it missed."""
        bars = {
            f"memory grew by more than {GROWTH_BAR_MB:g} MB": self.growth_mb <= GROWTH_BAR_MB,
            "more file descriptors at the end": self.descriptors_last[1] <= self.descriptors_first[1],
            f"p99 of the last tenth above {SLOWER_BAR:g} of the first's":
                self.p99_last_ms <= SLOWER_BAR * self.p99_first_ms,
        }  # fmt: skip
        return [what for what, met in bars.items() if not met]


def soak(video: Path, box_xywh: tuple[float, ...], updates: int, bundle: Path | None = None) -> Soak:
    """Let the service run for so many updates.

    Raises:
        ServiceError: it does not start.
    """
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        link.bind(("127.0.0.1", 0))
        link.settimeout(SILENT_S)
        config = CONFIG.format(
            video=json.dumps(str(video.resolve())), port=link.getsockname()[1], box=",".join(map(str, box_xywh)),
            bundle=f"bundle: {json.dumps(str(bundle.resolve()))}\n" if bundle else "",
        )
        with served(Path(folder), config) as service:
            latencies_ms, statuses, looks, lost = _watched(service, link, updates)
            faults = service.faults()
            _, end_s = service.end()
    tenth = updates // 10
    settled = [look for look in looks if look.updates >= SETTLED]
    few = len(settled) // 10 + 1
    begin, end = (float(np.median([look.memory for look in part])) for part in (settled[:few], settled[-few:]))
    first, last = (np.percentile(part, 99).item() for part in (latencies_ms[:tenth], latencies_ms[-tenth:]))
    return Soak(
        updates, (end - begin) / 1e6, _range([look.descriptors for look in settled[:few]]),
        _range([look.descriptors for look in settled[-few:]]), _range([look.threads for look in settled]), first, last,
        lost, dict(statuses), faults, end_s,
    )  # fmt: skip


def _watched(
    service: ServeProcess, link: socket.socket, updates: int
) -> tuple[np.ndarray, Counter[str], list[Look], int]:
    """Latencies in ms, statuses, looks at the process, and the number of results that got lost."""
    process = psutil.Process(service.process.pid)
    latencies_ms, statuses, looks = np.zeros(updates), Counter[str](), list[Look]()
    last, lost, due = -1, 0, 0.0
    for index, result in enumerate(_results(link, updates)):
        latencies_ms[index] = result["latency_ms"]
        statuses[result["status"]] += 1
        lost, last = lost + result["frame"] - last - 1, result["frame"]
        if time.monotonic() >= due:
            due = time.monotonic() + LOOK_S
            with process.oneshot():
                looks.append(Look(index, process.memory_info().rss, process.num_fds(), process.num_threads()))
            ask(service.http, "/metrics")
    return latencies_ms, statuses, looks, lost


def _results(link: socket.socket, updates: int) -> Iterator[dict]:
    for _ in tqdm(range(updates), unit="update", disable=None):
        yield json.loads(link.recv(65536))


def _range(values: list[int]) -> tuple[int, int]:
    return min(values), max(values)


def table(run: Soak) -> str:
    """Markdown."""
    seen = ", ".join(f"{status} {count}" for status, count in sorted(run.statuses.items()))
    rows = (
        ("updates", f"{run.updates}", ""),
        ("memory growth after the first 1,000, MB", f"{run.growth_mb:.2f}", f"<= {GROWTH_BAR_MB:g}"),
        ("file descriptors in the first tenth, in the last",
         "{} to {}, {} to {}".format(*run.descriptors_first, *run.descriptors_last), "constant"),
        ("threads", "{} to {}".format(*run.threads), ""),
        ("p99 latency of the last tenth over the first's",
         f"{run.p99_last_ms:.2f} / {run.p99_first_ms:.2f} ms = {run.p99_last_ms / run.p99_first_ms:.2f}",
         f"<= {SLOWER_BAR:g}"),
        ("status", seen, ""),
        ("faults", ", ".join(f"{name} {count}" for name, count in run.faults.items()) or "none", ""),
        ("SIGTERM to end, s", f"{run.end_s:.2f}", "<= 1"),
    )  # fmt: skip
    return "\n".join(("| what | measured | bar |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)))


@click.command()
@click.argument("video", type=click.Path(path_type=Path, exists=True))
@click.option("--init", "box", required=True, metavar="x,y,w,h", help="The target in the first frame.")
@click.option("--bundle", type=click.Path(path_type=Path), help="Default: the default tracker.")
@click.option("--updates", type=click.IntRange(FEWEST), default=100_000, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the figures as JSON.")
def main(video: Path, box: str, bundle: Path | None, updates: int, output: Path | None) -> None:
    """Let `siamtrt serve` track VIDEO over and over, and say what it did to its memory and latency."""
    run = soak(video, parse_box(box), updates, bundle)
    click.echo(table(run))
    if output:
        write_whole(output, json.dumps({**asdict(run), "environment": environment()}, indent=2).encode())
    for miss in run.misses:
        click.echo(f"missed: {miss}", err=True)
    sys.exit(bool(run.misses))


if __name__ == "__main__":
    main()
