"""`siamtrt view`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from siamtrt.cli_serve import serve_until_stopped
from siamtrt.cli_source import live_options

if TYPE_CHECKING:
    from siamtrt.backends import Backend


@click.command()
@live_options
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8766, show_default=True,
    help="Of this machine, where the page is; 0 takes a free one.",
)  # fmt: skip
@click.option("--init", help="The target in the first frame: x,y,w,h in pixels. Without it, draw it on the page.")
@click.option("--loop", is_flag=True, help="Begin a file again at its end.")
@click.option(
    "--realtime/--every-frame", default=True, show_default=True,
    help="Play a file at its frame rate, or as fast as the tracker is.",
)  # fmt: skip
def view(
    bundle: Path, source: str, backend: Backend, threads: int | None, port: int, init: str | None, loop: bool,
    realtime: bool,
) -> None:  # fmt: skip
    """Track SOURCE live and show it on a web page: video, box, score, response map, latency; drag to choose a target.

    SOURCE is a camera index, a URL (rtsp://...), a GStreamer pipeline, a video file or a folder of images. Without
    BUNDLE the tracker that comes with siamtrt is taken. Ctrl-C ends it.

    Only this machine can open the page. To see it from another, forward the port there: ssh -L 8766:127.0.0.1:8766
    DEVICE, and open http://127.0.0.1:8766/view/.

    Examples: siamtrt view 0; siamtrt view nanotrack_v2 flight.mp4 --loop --init 120,80,64,48
    """
    with suppress(KeyboardInterrupt):  # a stop before it runs
        from siamtrt.boxes import parse_box
        from siamtrt.service.config import HttpConfig, ServiceConfig

        target = parse_box(init) if init is not None else None
        serve_until_stopped(
            ServiceConfig(
                source, loop=loop, realtime=realtime, bundle=str(bundle), backend=backend, threads=threads,
                target=target, http=HttpConfig(port=port), view=True,
            )
        )
