"""`siamtrt trax`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option("--print-ini", "name", metavar="NAME", help="Instead, print NAME's entry for VOT's trackers.ini.")
def trax(bundle: Path | None, name: str | None) -> None:
    """Serve a BUNDLE's tracker over TraX, the protocol of VOT's toolkit, to the evaluator that starts this.

    Without BUNDLE it is the tracker that comes with siamtrt. Requests come over stdin and stdout, or over the port in
    TRAX_SOCKET; answers are rectangles, or polygons of trackers that give them, with a confidence.

    Examples: siamtrt trax --print-ini siamtrt >> trackers.ini; vot evaluate siamtrt
    """
    from siamtrt.benchmarks.trax_server import ini_entry, serve
    from siamtrt.runtime.tracker import Tracker

    if name is not None:
        click.echo(ini_entry(name, bundle), nl=False)
        return
    with Tracker.load(bundle) as tracker:
        serve(tracker)
