"""What `siamtrt track` and `bench` share on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from siamtrt.backends import BACKENDS

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_THREADS = 64  # beyond the cores, ONNX Runtime's threads spin: a million hang for minutes
PathArgument = click.Path(path_type=Path)


def source_options(command: Callable[..., None]) -> Callable[..., None]:
    """Bundle, source, backend, threads and checkpoint."""
    options = [
        click.argument("bundle", type=PathArgument),
        click.argument("source"),
        click.option("--backend", type=click.Choice(BACKENDS), default="auto", show_default=True),
        click.option(
            "--threads", type=click.IntRange(1, MOST_THREADS),
            help="CPU threads; default by network size. 1 is steadiest on a live camera.",
        ),
        click.option("--checkpoint", type=PathArgument, help="For PyTorch: the file the bundle came from."),
    ]
    for option in reversed(options):
        command = option(command)
    return command
