"""Put trained weights in the package: `python -m siamtrt.training.release WEIGHTS`, in a checkout."""

from __future__ import annotations

import io
import shutil
import tarfile
import tempfile
from pathlib import Path

import click

from siamtrt.default_tracker import ARCHIVE, WEIGHTS
from siamtrt.export.bundle import export_bundle
from siamtrt.files import staged_file, write_whole

MODEL = "siamrpn_mobilev2_small"
MOST_BYTES = 5_000_000  # of both files: a tracker that is small enough to live in a repository


def packed(folder: Path) -> bytes:
    """A .tar.xz of a folder's files that depends on their names and bytes alone."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:xz", preset=9) as archive:
        for path in sorted(folder.rglob("*")):
            entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
            if path.is_file():
                entry.size = path.stat().st_size
                with path.open("rb") as file:
                    archive.addfile(entry, file)
    return content.getvalue()


def release(weights: Path) -> int:
    """Replace the default tracker.

    Returns:
        Bytes of weights and bundle together.

    Raises:
        SiamtrtError: weights of another network.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / WEIGHTS.name  # the manifest names its checkpoint
        shutil.copyfile(weights, copy)
        export_bundle(copy, Path(folder) / "bundle", MODEL)
        content = packed(Path(folder) / "bundle")
        total = len(content) + copy.stat().st_size
        if total > MOST_BYTES:
            raise click.ClickException(f"{total:,} bytes, more than {MOST_BYTES:,}")
        with staged_file(WEIGHTS) as staging:
            shutil.copyfile(copy, staging)
    write_whole(ARCHIVE, content)
    return total


@click.command()
@click.argument("weights", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(weights: Path) -> None:
    """Export WEIGHTS and put them and their bundle where `Tracker.load()` finds them."""
    click.echo(f"{release(weights):,} bytes in {WEIGHTS.parent}")


if __name__ == "__main__":
    main()
