"""Engines of every precision side by side: `python -m siamtrt.benchmarks.precision_engines BUNDLE...`.

For calibrated bundles: FP32, FP16, every convolution in INT8, and the calibration's plan ("mixed"), built by
TensorRT-RTX without a GPU.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click
from tqdm import tqdm

from siamtrt.calibration.calibrate import load_models
from siamtrt.calibration.record import load_calibration
from siamtrt.calibration.variants import variant_models
from siamtrt.export.trt import DEFAULT_TARGETS, engine_from_onnx, load_flavour
from siamtrt.files import write_whole
from siamtrt.manifest import load_manifest

PRECISIONS = ("fp32", "fp16", "int8", "mixed")


@dataclasses.dataclass(frozen=True)
class Row:
    """Sizes in bytes of a tracker's two engines together, by precision, for one target."""

    tracker: str
    target: str
    sizes: dict[str, int]


def build_rows(bundle: Path, targets: tuple[str, ...]) -> list[Row]:
    """Build both graphs of a calibrated bundle in every precision for every target; nothing is kept.

    Raises:
        BundleError, CalibrationError: no bundle, or not calibrated.
        BuildError: TensorRT-RTX refused a graph.
    """
    manifest, package = load_manifest(bundle), load_flavour("tensorrt_rtx")
    models = load_models(bundle, manifest)
    calibration = load_calibration(bundle, manifest)
    typed = {name: variant_models(name, models, calibration, manifest, half=True) for name in PRECISIONS}
    rows = []
    for target in tqdm(targets, manifest.model, unit="target"):
        sizes = {
            name: sum(
                len(engine_from_onnx(package, model.SerializeToString(), target, f"{name} {graph}"))
                for graph, model in graphs.items()
            )
            for name, graphs in typed.items()
        }
        rows.append(Row(manifest.model, target, sizes))
    return rows


def as_markdown(rows: list[Row]) -> str:
    """A row a tracker and target: megabytes, and INT8's share of FP32's."""
    lines = ["| tracker | target | FP32, MB | FP16 | INT8 | mixed | INT8 of FP32 |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        cells = [f"{row.sizes[name] / 1e6:.1f}" for name in PRECISIONS]
        share = row.sizes["int8"] / row.sizes["fp32"]
        lines.append(f"| `{row.tracker}` | {row.target} | {' | '.join(cells)} | {share:.0%} |")
    return "\n".join(lines) + "\n"


@click.command()
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--target", default=",".join(DEFAULT_TARGETS), show_default=True, help="GPU architectures.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Markdown to write.")
def main(bundles: tuple[Path, ...], target: str, output: Path | None) -> None:
    """Build template and search of calibrated BUNDLES in every precision and print the engines' sizes."""
    text = as_markdown([row for bundle in bundles for row in build_rows(bundle, tuple(target.split(",")))])
    click.echo(text, nl=False)
    if output:
        write_whole(output, text.encode())


if __name__ == "__main__":
    main()
