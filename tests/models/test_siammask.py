"""SiamMask reproduces pysot's published code, refined and not, also as exported."""

from __future__ import annotations

import functools
import importlib.util
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F

from siamtrt.export.onnx_export import export_graphs
from siamtrt.models.presets import PRESETS
from siamtrt.models.resnet import Bottleneck, ResNet
from siamtrt.models.siammask import SiamMask

pytestmark = pytest.mark.usefixtures("one_registry")

SEED, LIMIT = 7, 1e-4
MASK_OUTPUT = {True: "refine_r12_c12", False: "mask_r12_c12"}
variants = pytest.mark.parametrize("refined", [True, False], ids=["refined", "base"])


def off_by(actual: np.ndarray, expected: np.ndarray) -> float:
    actual, expected = actual.ravel(), expected.ravel()
    assert actual.shape == expected.shape
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


class Case:
    """One variant with the golden's weights, and every tensor from the golden's crops on."""

    def __init__(self, goldens: Path, refined: bool) -> None:
        spec = importlib.util.spec_from_file_location("golden_recipe", goldens / "recipe.py")
        recipe = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(recipe)
        shapes = json.loads((goldens / "siammask_r50_l3.keys.json").read_text())["keys"]
        state = {key: torch.from_numpy(np.asarray(w)) for key, w in recipe.state_dict(shapes, SEED).items()}
        if not refined:
            state = {key: value for key, value in state.items() if not key.startswith("refine_head.")}
        self.module = SiamMask(refine=refined).eval()
        self.module.load_state_dict(state)  # strictly
        self.expected = dict(np.load(goldens / f"siammask_r50_l3.seed{SEED}.npz"))
        self.expected["mask"] = self.expected[MASK_OUTPUT[refined]]
        (self.graph,) = self.module.extra_graphs()
        self.tensors = {
            "z": torch.from_numpy(recipe.image(127, SEED)), "x": torch.from_numpy(recipe.image(255, SEED + 1)),
            "position": torch.tensor([12, 12]),
        }  # fmt: skip
        self.run("template", ("z",), ("kernel0",))
        self.run("search", ("x", "kernel0"), self.module.outputs)
        self.run("refine", self.graph.inputs, self.graph.outputs)

    def run(self, method: str, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
        with torch.no_grad():
            found = getattr(self.module, method)(*(self.tensors[name] for name in inputs))
        self.tensors |= dict(zip(outputs, found, strict=True))


@functools.cache
def case(goldens: Path, refined: bool) -> Case:
    return Case(goldens, refined)


def test_base_network_equals_pysot(shared_dir):
    """The refined one is among the goldens of tests/models/test_networks.py and tests/export/test_bundle.py."""
    found = case(shared_dir / "goldens", False)
    for name in ("cls", "loc", "mask"):
        assert off_by(found.tensors[name].numpy(), found.expected[name]) <= LIMIT


def test_exported_base_graphs_equal_pysot(shared_dir):
    """In ONNX Runtime, each graph fed with what the graphs before it returned."""
    one = case(shared_dir / "goldens", False)
    known = {name: one.tensors[name].numpy() for name in ("z", "x", "position")}
    for session in base_sessions(shared_dir / "goldens").values():
        names, outputs = ([tensor.name for tensor in side] for side in (session.get_inputs(), session.get_outputs()))
        known |= dict(zip(outputs, session.run(None, {name: known[name] for name in names}), strict=True))
    for name in ("cls", "loc", "mask"):
        assert off_by(known[name], one.expected[name]) <= LIMIT


@variants
def test_position_is_an_input_not_a_constant(shared_dir, exported, refined):
    """Exported at row 12, column 12, right at others, the map's corners included."""
    one = case(shared_dir / "goldens", refined)
    refined_graph = exported("siammask_r50_l3") / "refine.onnx" if refined else None
    session = _session(refined_graph) if refined_graph else base_sessions(shared_dir / "goldens")["refine"]
    feeds = {name: one.tensors[name].numpy() for name in one.graph.inputs}
    for row, column in ((0, 24), (24, 0), (7, 19)):
        position = np.array([row, column])
        (mask,) = session.run(None, {**feeds, "position": position})
        assert off_by(mask, expected_mask(one, row, column)) <= LIMIT


@functools.cache
def base_sessions(goldens: Path) -> dict[str, onnxruntime.InferenceSession]:
    graphs = export_graphs(case(goldens, False).module, PRESETS["siammask_base"])
    return {name: _session(graph.model.SerializeToString()) for name, graph in graphs.items()}


def _session(model: bytes | Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])


def expected_mask(one: Case, row: int, column: int) -> np.ndarray:
    """The head over the whole map, or the refinement with windows unfolded from all positions as in training."""
    module, tensors = one.module, one.tensors
    with torch.no_grad():
        if module.refine_head is None:
            return module.mask_head.head(tensors["correlation"])[0, :, row, column].numpy()
        windows = []
        for level, (side, stride) in enumerate(((61, 4), (31, 2), (15, 1))):
            features = tensors[f"feature{level}"]
            unfolded = F.unfold(features, side, padding=4 * stride, stride=stride)
            assert unfolded.shape[2] == 25 * 25
            windows.append(unfolded[:, :, 25 * row + column].reshape(1, -1, side, side))
        cell = tensors["correlation"][:, :, row, column, None, None]
        return module.refine_head(windows, cell).numpy()


def test_resnet_levels_are_those_of_the_whole_network():
    """A network cut short returns what the whole one returns there, and lacks the stages after it."""
    torch.manual_seed(0)
    whole = ResNet(Bottleneck, (1, 1, 1, 1), levels=(0, 1, 2, 3, 4)).eval()
    short = ResNet(Bottleneck, (1, 1, 1, 1), levels=(1, 3)).eval()
    short.load_state_dict({key: value for key, value in whole.state_dict().items() if not key.startswith("layer4.")})
    x = torch.randn(1, 3, 127, 127)
    with torch.no_grad():
        every, some = whole(x), short(x)
    assert [tuple(f.shape[1:3]) for f in every] == [(64, 61), (256, 31), (512, 15), (1024, 15), (2048, 15)]
    assert torch.equal(some[0], every[1])
    assert torch.equal(some[1], every[3])
    with torch.no_grad():
        stem = F.relu(whole.bn1(F.conv2d(x, whole.conv1.weight, stride=2)))
    torch.testing.assert_close(every[0], stem)
