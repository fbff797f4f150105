"""Evaluations killed at random moments: `python -m siamtrt.benchmarks.kill_eval BUNDLE --dataset DIR`.

The command line itself is run, undisturbed once; then again and again into a new folder, killed (SIGKILL) at a random
moment between its first file and its usual end, and started anew until it gets through. Every file, but those of times,
must then be what the undisturbed run has, byte by byte, and the report but for its times.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from siamtrt.errors import SiamtrtError

RESULTS = "results"
TIMES = "times"
POLL_S = 0.005
MOST_KILLS = 4  # of one evaluation, so that it ends although the machine has become slower since the undisturbed run


@dataclass(frozen=True)
class Trial:
    """One evaluation that was killed.

    Attributes:
        killed_s: seconds from each start that was killed to its end.
        done: finished sequences at each kill.
        differing: files that are not as in the undisturbed run, or are in one of the two only.
    """

    killed_s: tuple[float, ...]
    done: tuple[int, ...]
    differing: tuple[str, ...]


def kill_trials(bundle: Path, dataset: Path, folder: Path, trials: int, workers: int = 1, seed: int = 0) -> list[Trial]:
    """Kill that many evaluations, each once at least.

    Args:
        folder: a new one, for the results.

    Raises:
        SiamtrtError: an evaluation that was not killed failed.
    """
    chance = random.Random(seed)
    command = evaluation_command(bundle, dataset, workers)
    undisturbed = _new(folder / "undisturbed")
    span = _undisturbed(command, undisturbed, bundle.resolve().name)
    expected = fingerprint(undisturbed)
    found = []
    for number in range(trials):
        trial = _new(folder / f"trial{number}")
        killed, done = _killed_and_finished(command, trial, span, chance)
        found.append(Trial(tuple(killed), tuple(done), _differing(fingerprint(trial), expected)))
    return found


def evaluation_command(bundle: Path, dataset: Path, workers: int = 1) -> list[str]:
    """`siamtrt eval`, whose results go to a folder of the directory it is run in."""
    return [
        sys.executable, "-m", "siamtrt.cli", "eval", str(bundle.resolve()), "--dataset", str(dataset.resolve()),
        "-o", RESULTS, "--workers", str(workers),
    ]  # fmt: skip


def _new(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _undisturbed(command: Sequence[str], folder: Path, tracker: str) -> tuple[float, float]:
    """Seconds until the first file, and until the end."""
    record = folder / RESULTS / tracker / "run.json"
    begin = time.monotonic()
    seen: list[float] = []

    def watch(elapsed: float) -> bool:
        if not seen and record.exists():
            seen.append(elapsed)
        return False

    run_until(command, folder, watch)
    total = time.monotonic() - begin
    return (seen or [total])[0], total


def run_until(command: Sequence[str], folder: Path, due: Callable[[float], bool]) -> float | None:
    """Run a command in a folder; kill it when `due`, asked with the seconds so far, says so.

    Returns:
        the seconds until then; None where it ended before.

    Raises:
        SiamtrtError: it ended with an error.
    """
    begin = time.monotonic()
    with (folder / "stderr.txt").open("wb") as errors:
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=errors)
    while process.poll() is None:
        elapsed = time.monotonic() - begin
        if due(elapsed):
            process.kill()
            process.wait()
            return elapsed
        time.sleep(POLL_S)
    if process.returncode:
        said = (folder / "stderr.txt").read_text(errors="replace").strip().splitlines()
        raise SiamtrtError(
            "the evaluation failed", received=f"exit code {process.returncode}: {said[-1] if said else ''}",
            expected="exit code 0", fix="run `siamtrt eval` with the same bundle and dataset",
        )  # fmt: skip
    return None


def _killed_and_finished(
    command: Sequence[str], folder: Path, span: tuple[float, float], chance: random.Random
) -> tuple[list[float], list[int]]:
    """Seconds from start to kill, and sequences done by then, of each kill."""
    killed: list[float] = []
    done: list[int] = []
    while True:
        limit = chance.uniform(*span) if len(killed) < MOST_KILLS else math.inf
        elapsed = run_until(command, folder, lambda elapsed, limit=limit: elapsed >= limit)  # type: ignore[misc]
        if elapsed is not None:
            killed.append(elapsed)
            done.append(len(finished(folder)))
        elif killed:
            return killed, done
        else:
            shutil.rmtree(folder / RESULTS)  # it got through before it was to be killed


def _differing(found: dict[str, bytes], expected: dict[str, bytes]) -> tuple[str, ...]:
    return tuple(sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name)))


def finished(folder: Path) -> list[Path]:
    """The files of boxes that are there."""
    texts = (folder / RESULTS).glob("*/**/[!.]*.txt")
    return [path for path in texts if path.parent.name != TIMES and not path.stem.endswith("_time")]


def fingerprint(folder: Path) -> dict[str, bytes]:
    """The files of the results by path, hidden ones too, without what is measured in seconds."""
    root = folder / RESULTS
    files = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}
    return {name: _timeless(path) for name, path in files.items() if not name.endswith("_time.txt")}


def _timeless(path: Path) -> bytes:
    if path.name != "scores.json":
        return path.read_bytes()
    report = json.loads(path.read_bytes())
    for tracker in report["trackers"]:
        del tracker["update_ms"]
    return json.dumps(report).encode()


def as_table(trials: list[Trial]) -> str:
    """Markdown: a line a trial."""
    lines = ["| trial | killed after s | sequences done | differing files |", "|---|---|---|---|"]
    for number, trial in enumerate(trials, start=1):
        killed = ", ".join(f"{seconds:.1f}" for seconds in trial.killed_s)
        done = ", ".join(map(str, trial.done))
        lines.append(f"| {number} | {killed} | {done} | {', '.join(trial.differing) or 'none'} |")
    return "\n".join(lines)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--dataset", required=True, type=click.Path(path_type=Path), help="What `siamtrt eval` takes.")
@click.option("--trials", type=click.IntRange(1), default=10, show_default=True, help="Evaluations to kill.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="As of `siamtrt eval`.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the moments.")
def main(bundle: Path, dataset: Path, trials: int, workers: int, seed: int) -> None:
    """Kill evaluations of BUNDLE and compare what they leave in the end; exit code 1 where a file differs.

    Example: python -m siamtrt.benchmarks.kill_eval out/nanotrack_v2 --dataset OTB2015 --workers 2
    """
    with tempfile.TemporaryDirectory() as folder:
        done = kill_trials(bundle, dataset, Path(folder), trials, workers=workers, seed=seed)
    click.echo(as_table(done))
    kills, same = sum(len(trial.killed_s) for trial in done), sum(not trial.differing for trial in done)
    click.echo(f"{kills} kills; {same} of {trials} results are those of the undisturbed run")
    if same < trials:
        sys.exit(1)


if __name__ == "__main__":
    main()
