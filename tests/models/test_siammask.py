"""SiamMask reproduces pysot's published code, refined and not, also as exported."""

from __future__ import annotations

import functools
import importlib.util
import json
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F

from siamtrt.export.operator import with_operator_function
from siamtrt.export.rewrites import simplified, with_composed_pointwise, with_merged_siblings
from siamtrt.models.resnet import Bottleneck, ResNet
from siamtrt.models.siammask import SiamMask

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


@variants
def test_network_equals_pysot(shared_dir, refined):
    found = case(shared_dir / "goldens", refined)
    for name in ("cls", "loc", "mask"):
        assert off_by(found.tensors[name].numpy(), found.expected[name]) <= LIMIT


@variants
def test_exported_graphs_equal_pysot(shared_dir, refined):
    """In ONNX Runtime, each graph fed with what the graphs before it returned."""
    one = case(shared_dir / "goldens", refined)
    known = {name: one.tensors[name].numpy() for name in ("z", "x", "position")}
    for method, inputs, outputs in (
        ("template", ("z",), ("kernel0",)), ("search", ("x", "kernel0"), one.module.outputs),
        ("refine", one.graph.inputs, one.graph.outputs),
    ):  # fmt: skip
        session = exported(one, method, inputs)
        known |= dict(zip(outputs, session.run(None, {name: known[name] for name in inputs}), strict=True))
    for name in ("cls", "loc", "mask"):
        assert off_by(known[name], one.expected[name]) <= LIMIT


@variants
def test_position_is_an_input_not_a_constant(shared_dir, refined):
    """Exported at row 12, column 12, right at others, the map's corners included."""
    one = case(shared_dir / "goldens", refined)
    session = exported(one, "refine", one.graph.inputs)
    feeds = {name: one.tensors[name].numpy() for name in one.graph.inputs}
    for row, column in ((0, 24), (24, 0), (7, 19)):
        position = np.array([row, column])
        (mask,) = session.run(None, {**feeds, "position": position})
        assert off_by(mask, expected_mask(one, row, column)) <= LIMIT


def exported(one: Case, method: str, inputs: tuple[str, ...]) -> onnxruntime.InferenceSession:
    class Call(torch.nn.Module):
        def forward(self, *tensors):
            return getattr(one.module, method)(*tensors)

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tensors = tuple(one.tensors[name] for name in inputs)
        program = torch.onnx.export(Call().eval(), tensors, dynamo=True, input_names=list(inputs), verbose=False)
    model = with_composed_pointwise(with_merged_siblings(simplified(program.model_proto)))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    content = with_operator_function(model).SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


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
