"""Does hostile input crash anything? `python -m siamtrt.benchmarks.fuzz`.

Control messages to a real `siamtrt serve` over a real socket, manifests to the code that opens bundles, and packets to
the MAVLink camera, all random, from a seed. Nothing may crash, nothing may be written where nothing belongs, and memory
may not grow with what is refused.
"""

from __future__ import annotations

import sys

import click

from siamtrt.benchmarks.fuzz_control import ControlOutcome, fuzz_control
from siamtrt.benchmarks.fuzz_manifests import ManifestOutcome, fuzz_manifests
from siamtrt.benchmarks.fuzz_mavlink import Outcome, fuzz_mavlink

MOST_GROWTH = 16e6  # bytes; frames and buffers come and go


def control_row(found: ControlOutcome) -> tuple[str, list[str]]:
    """A row of the table, and what is wrong."""
    refused = sum(count for status, count in found.statuses.items() if status >= 400)
    wrong = [f"control: {found.crashes} crashes: {dict(found.statuses)}, {found.faults}"] if found.crashes else []
    wrong += [f"control: files appeared or changed: {found.stray}"] if found.stray else []
    wrong += [f"control: memory grew by {found.grown_bytes / 1e6:.0f} MB"] if found.grown_bytes > MOST_GROWTH else []
    return _row("control messages", found.messages, refused, found.statuses[200], found.statuses[0], found.crashes,
                len(found.stray), found.seconds), wrong  # fmt: skip


def manifest_row(found: ManifestOutcome) -> tuple[str, list[str]]:
    """A row of the table, and what is wrong."""
    wrong = [f"manifests: {count} {kind}: {found.examples[kind]}" for kind, count in found.crashes.items()]
    wrong += [f"manifests: files appeared or changed: {found.stray}"] if found.stray else []
    return _row("manifests", found.manifests, found.refused, found.tracked, 0, found.crashes.total(),
                len(found.stray), found.seconds), wrong  # fmt: skip


def mavlink_row(found: Outcome) -> tuple[str, list[str]]:
    """A row of the table, and what is wrong."""
    accepted, refused = found.results[0], sum(count for result, count in found.results.items() if result)
    wrong = [] if found.survived else [f"mavlink: {found}"]
    wrong += [f"mavlink: memory grew by {found.grown_bytes / 1e6:.0f} MB"] if found.grown_bytes > MOST_GROWTH else []
    silent = found.packets - accepted - refused
    return _row("MAVLink packets", found.packets, refused, accepted, silent, int(not found.survived), 0, found.seconds
                ), wrong  # fmt: skip


def _row(kind: str, *values: float) -> str:
    *counts, seconds = values
    return f"| {kind} | {' | '.join(f'{count:.0f}' for count in counts)} | {seconds:.0f} |"


@click.command()
@click.option("--count", type=click.IntRange(1), default=10_000, show_default=True, help="Of each kind.")
@click.option("--seed", type=int, default=0, show_default=True)
def main(count: int, seed: int) -> None:
    """Throw random control messages, manifests and MAVLink packets at the service; exit code 1 on any crash."""
    rows = [
        control_row(fuzz_control(count, seed)), manifest_row(fuzz_manifests(count, seed)),
        mavlink_row(fuzz_mavlink(count, seed)),
    ]  # fmt: skip
    click.echo("| Input | Sent | Refused | Accepted | Without an answer | Crashes | Stray files | Seconds |")
    click.echo("|---|---|---|---|---|---|---|---|")
    for row, _ in rows:
        click.echo(row)
    mistakes = [mistake for _, wrong in rows for mistake in wrong]
    for mistake in mistakes:
        click.echo(mistake, err=True)
    sys.exit(bool(mistakes))


if __name__ == "__main__":
    main()
