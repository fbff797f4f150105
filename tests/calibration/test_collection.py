"""Every tensor of both graphs over pairs, against tensors that are computed one at a time."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from onnx import ModelProto
from onnx.reference import ReferenceEvaluator
from toy import set_weight, weight_of

from siamtrt.calibration.collection import collect, float_tensors
from siamtrt.calibration.histogram import BINS
from siamtrt.calibration.pairs import Pair
from siamtrt.errors import CalibrationError
from siamtrt.manifest import Manifest

Models = dict[str, ModelProto]
TENSORS = {
    "template": {"z", "features", "kernel0"},
    "search": {
        "x", "kernel0", "features", "active", "response", "mean", "squeezed", "gate", "gate_map", "gated", "cls",
        "log_loc", "loc",
    },
}  # fmt: skip


def captured(model: ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every tensor of a graph by ONNX's reference implementation, in NumPy."""
    all_out = ModelProto.FromString(model.SerializeToString())
    del all_out.graph.output[:]
    names = [name for node in model.graph.node for name in node.output]
    all_out.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    return {**feeds, **dict(zip(names, ReferenceEvaluator(all_out).run(None, feeds), strict=True))}


def test_histograms_are_those_of_every_tensor(toy_manifest: Manifest, toys: Models, toy_pairs: list[Pair]) -> None:
    pairs = toy_pairs[:2]
    found = collect(toy_manifest, toys, pairs, threads=1)
    assert {graph: set(rows) for graph, rows in found.items()} == TENSORS
    values: dict[str, dict[str, list[np.ndarray]]] = {graph: {name: [] for name in TENSORS[graph]} for graph in TENSORS}
    for pair in pairs:
        made = captured(toys["template"], {"z": pair.template})
        seen = captured(toys["search"], {"x": pair.search, "kernel0": made["kernel0"]})
        for graph, tensors in (("template", made), ("search", seen)):
            for name, rows in values[graph].items():
                rows.append(np.abs(tensors[name]).ravel())
    for graph, rows in values.items():
        for name, pieces in rows.items():
            histogram, data = found[graph][name], np.concatenate(pieces).astype(np.float64)
            assert histogram.count == data.size, name
            assert histogram.largest == pytest.approx(data.max(), rel=1e-4), name
            edges = np.arange(BINS + 1) * histogram.bin_width
            counts, up_to = np.histogram(data, edges)[0], np.cumsum(histogram.counts)
            # The two runtimes' last bits may put a value into the next bin: cumulative counts differ by a few.
            assert np.abs(np.cumsum(counts) - up_to).max() <= max(2, 0.005 * data.size), name


def test_pairs_are_not_kept(toy_manifest: Manifest, toys: Models, toy_pairs: list[Pair]) -> None:
    """Memory does not grow: of a stream of pairs at most the last is alive."""
    alive: list[weakref.ref[np.ndarray]] = []

    def stream() -> Iterator[Pair]:
        for pair in toy_pairs:
            assert sum(reference() is not None for reference in alive) <= 1
            search = np.array(pair.search)
            alive.append(weakref.ref(search))
            yield dataclasses.replace(pair, search=search)
            del search

    found = collect(toy_manifest, toys, stream())
    assert found["search"]["x"].count == len(toy_pairs) * 3 * 64 * 64


@pytest.mark.parametrize(
    ("graph", "weight", "tensor"), [("template", "template_weight", "features"), ("search", "cls_weight", "cls")]
)
def test_an_overflow_is_named(
    toy_manifest: Manifest, toys: Models, toy_pairs: list[Pair], graph: str, weight: str, tensor: str
) -> None:
    """Huge, but finite weights."""
    spoiled = {name: ModelProto.FromString(model.SerializeToString()) for name, model in toys.items()}
    original = weight_of(toys[graph], weight)
    set_weight(spoiled[graph], weight, original / np.abs(original).max() * np.float32(3e38))
    with pytest.raises(
        CalibrationError, match=rf"cannot calibrate tensor '{tensor}': received \d+ NaN and \d+ infinite"
    ):
        collect(toy_manifest, spoiled, toy_pairs)


def test_float_tensors() -> None:
    body = "m = MaxPool<kernel_shape = [2, 2]>(x) s = Shape(m) d, k = Dropout(m) c = Cast<to = 10>(d) y = Relu(d)"
    text = f'<ir_version: 10, opset_import: ["" : 20]> g (float[1,4,6,6] x) => (float[1,4,5,5] y) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    model.graph.node[0].output.append("")  # an optional output left out
    assert float_tensors(model) == ("m", "d", "y")
