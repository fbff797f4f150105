"""`siamtrt serve`."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from siamtrt.service.config import ServiceConfig


@click.command()
@click.argument("config", required=False, type=click.Path(path_type=Path))
@click.option("--check", is_flag=True, help="Check CONFIG, its bundles and its token, and end.")
@click.option("--example", is_flag=True, help="Print a config with a comment for every field.")
def serve(config: Path | None, check: bool, example: bool) -> None:
    """Track a live source for as long as it runs: health, metrics and control over HTTP, results to files and networks.

    CONFIG is a YAML file that names the source, the tracker, where to listen and where results go. The service listens
    on this machine only, unless the config says otherwise and names a token file. docs/serve.md explains it all.

    SIGTERM or Ctrl-C ends it within a second, everything written.

    Example: siamtrt serve --example > service.yaml; siamtrt serve service.yaml
    """
    with suppress(KeyboardInterrupt):  # a stop before it runs
        from siamtrt.service.config import EXAMPLE_TEXT, load_config

        if example:
            click.echo(EXAMPLE_TEXT, nl=False)
            return
        if config is None:
            raise click.UsageError("expected CONFIG, or --example")
        loaded = load_config(config)
        if check:
            from siamtrt.service.serve import check_bundles

            click.echo(f"{config}: fine, {check_bundles(loaded)} tracks {loaded.source}")
            return
        serve_until_stopped(loaded)


def serve_until_stopped(config: ServiceConfig) -> None:
    """Serve, and end the process even if a thread does not."""
    from siamtrt.service.serve import serve_and_log

    serve_and_log(config)
    if sys.stdout is sys.__stdout__:  # a process of its own, not a test: all is written, and a thread that hangs in a
        os._exit(0)  # driver must not meet the interpreter's end, which takes a tenth of a second besides
