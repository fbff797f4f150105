"""What a change does to a step, against sessions, decoders and measures put together here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from clips import clip
from onnx import ModelProto
from toy import set_weight, weight_of

from siamtrt.calibration import evaluation
from siamtrt.calibration.evaluation import UNCHANGED, Damage, Evaluator
from siamtrt.calibration.pairs import Pair, sample_pairs
from siamtrt.manifest import Manifest, load_manifest
from siamtrt.runtime.decode import ProposalDecoder
from siamtrt.runtime.response import ResponseDecoder
from siamtrt.runtime.state import TargetState
from siamtrt.tracking import ResponseDecoding

stats = pytest.importorskip(
    "scipy.stats", reason="the measures are compared with SciPy's; it comes with the demo extra"
)
Models = dict[str, ModelProto]


def changed(model: ModelProto, name: str, change: Callable[[np.ndarray], np.ndarray]) -> ModelProto:
    """A copy with one constant changed."""
    result = ModelProto.FromString(model.SerializeToString())
    set_weight(result, name, change(weight_of(result, name)).astype(np.float32))
    return result


def run(model: ModelProto, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, dict(feeds)), strict=True))


def one_step(manifest: Manifest, models: Models, pair: Pair) -> tuple[dict[str, np.ndarray], TargetState]:
    """The search graph's outputs and the next state."""
    kernels = run(models["template"], {"z": pair.template})
    maps = run(models["search"], {"x": pair.search, **kernels})
    parts = manifest.decoding, manifest.tracking, manifest.preprocessing
    decoder = (ResponseDecoder if isinstance(manifest.decoding, ResponseDecoding) else ProposalDecoder)(*parts)
    return maps, decoder.decode(pair.state, maps, pair.frame_size)


def overlap(a: TargetState, b: TargetState) -> float:
    """IoU by interval arithmetic on the sides."""
    sides = []
    for axis in (0, 1):
        spans = [(s.center_xy[axis] - s.size_wh[axis] / 2, s.center_xy[axis] + s.size_wh[axis] / 2) for s in (a, b)]
        sides.append(max(0.0, min(spans[0][1], spans[1][1]) - max(spans[0][0], spans[1][0])))
    common = sides[0] * sides[1]
    return common / (np.prod(a.size_wh) + np.prod(b.size_wh) - common)


def expected(manifest: Manifest, models: Models, variant: Models, pairs: Iterable[Pair]) -> Damage:
    rows = []
    for pair in pairs:
        (exact_maps, exact), (maps, found) = (one_step(manifest, m, pair) for m in (models, {**models, **variant}))
        if isinstance(manifest.decoding, ResponseDecoding):
            a, b = exact_maps["response"], maps["response"]
            context = 0.5 * sum(pair.state.size_wh)
            size = manifest.preprocessing
            side = np.sqrt(np.prod(np.add(pair.state.size_wh, context))) * size.search_size / size.scale_size
            distance = np.hypot(*np.subtract(exact.center_xy, found.center_xy)) * size.search_size / side
        else:
            a, b = (m["cls"][0, 1] - m["cls"][0, 0] for m in (exact_maps, maps))
            distance = 4 * np.hypot(*np.subtract(exact.position_rc, found.position_rc))
        correlation = stats.pearsonr(a.ravel().astype(float), b.ravel().astype(float)).statistic
        rows.append((correlation, distance, overlap(exact, found)))
    return Damage(*np.mean(rows, axis=0))


def assert_close(found: Damage, wanted: Damage) -> None:
    assert dataclasses.astuple(found) == pytest.approx(dataclasses.astuple(wanted), rel=1e-4, abs=1e-5)


@pytest.fixture(scope="module")
def evaluator(toy_manifest: Manifest, toys: Models, toy_pairs: list[Pair]) -> Iterable[Evaluator]:
    with Evaluator(toy_manifest, toys, toy_pairs, threads=1) as found:
        yield found


@pytest.mark.parametrize("graphs", [(), ("template",), ("search",), ("template", "search")])
def test_nothing_changed(evaluator: Evaluator, toys: Models, graphs: tuple[str, ...]) -> None:
    damage = evaluator.damage({graph: toys[graph] for graph in graphs})
    assert (damage.iou, damage.drop, damage.displacement_px) == (1.0, 0.0, 0.0)  # exactly: a budget may be 0
    assert damage.correlation == pytest.approx(1.0, abs=1e-12)
    assert UNCHANGED.drop == 0


NOISE = np.random.default_rng(5)
CHANGES = {
    "template": ("template", "template_weight", lambda w: w * NOISE.uniform(0.2, 3, (8, 1, 1, 1))),
    "search": ("search", "search_weight", lambda w: w * NOISE.uniform(0.2, 3, (8, 1, 1, 1))),
    "boxes alone": ("search", "loc_weight", lambda w: w * 1.5),
    "upside down": ("search", "cls_weight", lambda w: -w),
}


@pytest.mark.parametrize("names", [*((name,) for name in CHANGES), ("template", "search")])
def test_a_changed_graph(
    evaluator: Evaluator, toy_manifest: Manifest, toys: Models, toy_pairs: list[Pair], names: tuple[str, ...]
) -> None:
    variant = {CHANGES[n][0]: changed(toys[CHANGES[n][0]], *CHANGES[n][1:]) for n in names}
    found = evaluator.damage(variant)
    assert_close(found, expected(toy_manifest, toys, variant, toy_pairs))
    assert 0 < found.iou < 0.999
    if names == ("boxes alone",):
        assert found.correlation == pytest.approx(1.0, abs=1e-12)
    else:
        assert found.displacement_px > 0
    if names == ("upside down",):
        assert found.correlation < 0


@pytest.mark.parametrize(("graph", "name"), [("template", "template_weight"), ("search", "cls_bias")])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite_is_a_lost_target(evaluator: Evaluator, toys: Models, graph: str, name: str, value: float) -> None:
    def spoil(weight: np.ndarray) -> np.ndarray:
        weight.flat[0] = value
        return weight

    damage = evaluator.damage({graph: changed(toys[graph], name, spoil)})
    assert damage == Damage(0.0, 64.0, 0.0)


def test_cases_are_the_steps_in_fp32(evaluator: Evaluator, toys: Models, toy_pairs: list[Pair]) -> None:
    for graph in ("template", "search"):
        cases = list(evaluator.cases(graph))
        assert len(cases) == len(toy_pairs)
        for pair, (feeds, outputs) in zip(toy_pairs, cases, strict=True):
            crop = pair.template if graph == "template" else pair.search
            np.testing.assert_array_equal(next(iter(feeds.values())), crop)
            for name, value in run(toys[graph], feeds).items():
                np.testing.assert_allclose(outputs[name], value, rtol=1e-5, atol=1e-6)
    kernels = [feeds["kernel0"] for feeds, _ in evaluator.cases("search")]
    assert not np.array_equal(kernels[0], kernels[-1])  # each pair's own


def test_constant_maps_correlate_only_when_equal() -> None:
    flat, other = np.full((2, 3), 4.0), np.arange(6.0).reshape(2, 3)
    assert evaluation._correlation(flat, flat + 1) == 1.0
    assert evaluation._correlation(flat, other) == 0.0
    assert evaluation._correlation(other, other * -2 + 5) == pytest.approx(-1)


def test_threads_are_those_of_every_session(
    toy_manifest: Manifest, toys: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None chooses by the size of the graph for the probing sessions too, not all cores."""
    given = []
    monkeypatch.setattr(
        evaluation, "session_options", lambda size, threads: given.append((size, threads)) or ort.SessionOptions()
    )
    with Evaluator(toy_manifest, toys, [], None) as evaluator:
        evaluator.raw_session(toys["search"])
    assert given == [(len(toys["search"].SerializeToString()), None)]


@pytest.mark.parametrize("name", ["siamfc_alexnet"])
def test_response_maps_of_three_views(exported: Callable[[str], Path], name: str) -> None:
    bundle = exported(name)
    manifest = load_manifest(bundle)
    models = {graph: onnx.load(bundle / f"{graph}.onnx") for graph in ("template", "search")}
    weight = next(t.name for t in models["template"].graph.initializer if len(t.dims) == 4)
    variant = {"template": changed(models["template"], weight, lambda w: w * NOISE.uniform(0.1, 4, (len(w), 1, 1, 1)))}
    with sample_pairs(manifest, [clip(count=6)], 8) as pairs:
        few = [pairs[0], pairs[5]]
    assert few[0].search.shape == (3, 3, 255, 255)
    with Evaluator(manifest, models, few) as evaluator:
        found, same = evaluator.damage(variant), evaluator.damage({"search": models["search"]})
    assert_close(found, expected(manifest, models, variant, few))
    assert found.displacement_px > 0
    assert dataclasses.astuple(same) == pytest.approx((1, 0, 1))
