"""What the commands that track a source share on the command line."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from siamtrt.backends import BACKENDS

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_THREADS = 64  # beyond the cores, ONNX Runtime's threads spin: a million hang for minutes
PathArgument = click.Path(path_type=Path)


def source_options(command: Callable[..., None]) -> Callable[..., None]:
    """Bundle, source, backend, threads and checkpoint; without a bundle the default tracker's."""
    return live_options(
        click.option("--checkpoint", type=PathArgument, help="For PyTorch: the file the bundle came from.")(command)
    )


def live_options(command: Callable[..., None]) -> Callable[..., None]:
    """Bundle, source, backend and threads; without a bundle the default tracker's."""

    @functools.wraps(command)
    def with_bundle(bundle_and_source: tuple[str, ...], **others: Any) -> None:
        from siamtrt.default_tracker import default_bundle

        if not 1 <= len(bundle_and_source) <= 2:
            raise click.UsageError(f"expected [BUNDLE] SOURCE, received {len(bundle_and_source)} arguments")
        *bundles, source = bundle_and_source
        command(bundle=Path(bundles[0]) if bundles else default_bundle(), source=source, **others)

    wrapped: Callable[..., None] = with_bundle
    options = [
        click.argument("bundle_and_source", nargs=-1, metavar="[BUNDLE] SOURCE"),
        click.option("--backend", type=click.Choice(BACKENDS), default="auto", show_default=True),
        click.option(
            "--threads", type=click.IntRange(1, MOST_THREADS),
            help="CPU threads; default by network size. 1 is steadiest on a live camera.",
        ),
    ]
    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped
