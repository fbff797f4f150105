"""Render a clip to try a tracker on: `python -m siamtrt.training.render scene.mp4`."""

from __future__ import annotations

from pathlib import Path

import click

from siamtrt.training.scenes import write_scene_video


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--frames", type=click.IntRange(2), default=150, show_default=True)
@click.option("--seed", type=int, default=3, show_default=True)
@click.option("--width", type=click.IntRange(160), default=1280, show_default=True)
@click.option("--height", type=click.IntRange(120), default=720, show_default=True)
def main(path: Path, frames: int, seed: int, width: int, height: int) -> None:
    """Write the clip to PATH (.mp4) and the target's boxes beside it, one x,y,w,h line a frame."""
    boxes = write_scene_video(path, seed, frames, (width, height))
    click.echo(f"wrote {path} and {boxes}")


if __name__ == "__main__":
    main()
