"""A checkpoint -> a bundle: split, simplified, proven equal to PyTorch, written whole."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import torch

import siamtrt
from siamtrt.consistency import can_batch
from siamtrt.errors import BundleError, ExportError
from siamtrt.export.calls import Call, example_inputs, graph_calls, run_calls
from siamtrt.export.onnx_export import ExportedGraph, export_graphs
from siamtrt.files import staged_directory
from siamtrt.manifest import GRAPHS, GraphSpec, Manifest, Source, is_bundle, save_manifest, sha256_of
from siamtrt.models.checkpoints import LoadedNetwork, load_network
from siamtrt.models.preset import Preset

PARITY_LIMIT = 1e-4  # of the output's largest magnitude
PARITY_SEED = 0
RECORDED_PACKAGES = ("torch", "onnx", "onnxsim", "onnxscript", "onnxruntime")

Report = Callable[[str], None]


def export_bundle(
    checkpoint: Path | str, bundle: Path | str, model: str | None = None, report: Report = lambda step: None,
    batch: int = 1,
) -> Manifest:  # fmt: skip
    """Export a checkpoint to a bundle directory.

    Args:
        checkpoint: see `load_network`.
        bundle: directory to write; an older bundle there is replaced, anything else is refused.
        model: preset name, inferred when the parameter names decide it.
        report: called with the name of each step as it begins.
        batch: targets that one search follows at once, see `MultiTracker`.

    Raises:
        CheckpointError, SiamtrtError: see `load_network`.
        BundleError: the directory exists and is not a bundle.
        SiamtrtError: `batch` above 1 for a tracker that cannot share a search.
        ExportError: the exported graphs do not reproduce the network.
    """
    target = Path(bundle)
    _require_replaceable(target)
    report("loading the checkpoint")
    network = load_network(checkpoint, model)
    return bundle_from_network(network, target, report, batch)


def bundle_from_network(
    network: LoadedNetwork, bundle: Path, report: Report = lambda step: None, batch: int = 1
) -> Manifest:
    """Write the bundle of a loaded network; see `export_bundle`."""
    preset = network.preset
    _require_batch(preset, batch)
    report("splitting and simplifying the graphs")
    graphs = export_graphs(network.module, preset, batch)
    with staged_directory(bundle) as staging:
        for name, graph in graphs.items():
            onnx.save(graph.model, staging / f"{name}.onnx")
        report("comparing with PyTorch")
        parity = measure_parity(network, staging, batch)
        _require_parity(parity, preset.name)
        manifest = Manifest(
            model=preset.name, paper=preset.paper, source=Source(network.checkpoint.name, network.sha256),
            graphs={name: _graph_spec(staging, name, graph) for name, graph in graphs.items()},
            preprocessing=preset.preprocessing, decoding=preset.decoding, tracking=preset.tracking, parity=parity,
            versions={"siamtrt": siamtrt.__version__, **{name: version(name) for name in RECORDED_PACKAGES}},
            paper_figure=preset.paper_figure, note=preset.note, strategies=preset.strategies,
            batch=batch,
        )  # fmt: skip
        save_manifest(manifest, staging)
    return manifest


def _require_batch(preset: Preset, batch: int) -> None:
    if batch < 1 or (batch > 1 and not can_batch(preset.decoding, preset.strategies)):
        raise ExportError(
            f"{preset.name} cannot follow several targets in one search", received=f"batch {batch}",
            expected="1, or a tracker with a proposal head and no strategy, such as nanotrack_v2",
            fix="leave out --batch and open a tracker a target",
        )


def measure_parity(network: LoadedNetwork, bundle: Path, batch: int = 1) -> dict[str, float]:
    """Run PyTorch and ONNX Runtime on the same crops.

    Each graph is fed by those before it on the same side, so that they are judged as they will run.

    Returns:
        `{tensor name: max |onnx - torch| / max |torch|}` for the outputs of template and search, and of other
        graphs with their name and a dot before it.
    """
    module = network.module
    calls, examples = graph_calls(module, network.preset, batch), example_inputs(module)

    def run_torch(call: Call, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        with torch.no_grad():
            outputs = getattr(module, call.method)(*map(torch.from_numpy, feeds.values()))
        return [output.numpy() for output in outputs]

    def run_onnx(call: Call, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        session = onnxruntime.InferenceSession(bundle / f"{call.graph}.onnx", providers=["CPUExecutionProvider"])
        return session.run(list(call.outputs), feeds)

    arrays = {name: value.numpy() for name, value in examples.items()}
    expected, actual = (run_calls(calls, arrays, parity_crop, run, _varied) for run in (run_torch, run_onnx))
    return {
        name if graph in GRAPHS else f"{graph}.{name}": relative_error(actual[graph][name], value)
        for graph, outputs in expected.items()
        for name, value in outputs.items()
    }


def _varied(tensor: np.ndarray, count: int) -> np.ndarray:
    """The tensor of several targets, each other than the rest, so that mixing them up would show."""
    return np.concatenate([tensor * (1 + index / 10) for index in range(count)])


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """max |actual - expected| / max |expected|; infinite where either is not finite or the shapes differ."""
    if actual.shape != expected.shape or not (np.isfinite(actual).all() and np.isfinite(expected).all()):
        return float("inf")
    scale = float(np.abs(expected).max())
    difference = float(np.abs(actual - expected).max())
    return difference / scale if scale else difference


def parity_crop(name: str, shape: tuple[int, int, int, int]) -> np.ndarray:
    """Smooth random pictures with pixel noise, (N, 3, side, side) float32 in 0..255; others for template and search."""
    count, _, size, _ = shape
    rng = np.random.default_rng([PARITY_SEED, name == "x", size])
    smooth = [cv2.resize(rng.uniform(0, 255, (12, 12, 3)), (size, size), interpolation=cv2.INTER_CUBIC)] * count
    noisy = [np.clip(picture + rng.normal(0, 8, picture.shape), 0, 255) for picture in smooth]
    return np.ascontiguousarray(np.transpose(noisy, (0, 3, 1, 2)), dtype=np.float32)


def _require_parity(parity: dict[str, float], model: str) -> None:
    worst = max(parity, key=lambda name: (np.isnan(parity[name]), parity[name]))  # NaN compares as no larger
    if not parity[worst] <= PARITY_LIMIT:
        raise ExportError(
            f"the exported {model} does not reproduce PyTorch", received=f"{worst} off by {parity[worst]:.2e}",
            expected=f"at most {PARITY_LIMIT:.0e} of its largest magnitude",
            fix="report the tracker and the versions of torch, onnx, onnxsim and onnxruntime",
        )


def _graph_spec(folder: Path, name: str, graph: ExportedGraph) -> GraphSpec:
    file = f"{name}.onnx"
    return GraphSpec(file, sha256_of(folder / file), graph.inputs, graph.outputs)


def _require_replaceable(bundle: Path) -> None:
    if bundle.is_file() or (bundle.is_dir() and any(bundle.iterdir()) and not is_bundle(bundle)):
        raise BundleError(
            "will not overwrite what is not a bundle", received=str(bundle),
            expected="a new or empty directory, or an older bundle", fix="choose another -o",
        )
