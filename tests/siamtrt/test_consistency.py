"""Manifests whose graphs do not fit their strategies are refused when they are read."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from siamtrt.consistency import can_batch
from siamtrt.manifest import GraphSpec, Manifest, Source, TensorSpec, load_manifest, save_manifest
from siamtrt.tracking import (
    AnchorDecoding,
    LongTermSearch,
    LossDetection,
    MaskDecoding,
    Preprocessing,
    ResponseDecoding,
    ResponseTracking,
    Strategies,
    Tracking,
)

ANCHORS = AnchorDecoding(25, 8, (1.0,), (8.0,))
LOSS = LossDetection(0.2, 0.2, 0.1, 12.0, 0.7, uncertain=1.0, lost=-1.0, regained=1.0)


def graph(name, inputs, outputs):
    tensors = [tuple(TensorSpec(key, shape) for key, shape in side.items()) for side in (inputs, outputs)]
    return GraphSpec(f"{name}.onnx", "0" * 64, *tensors)


def masked():
    """A manifest with a mask of 63x63, and no mistake."""
    graphs = {
        "template": graph("template", {"z": (1, 3, 127, 127)}, {"kernel0": (1, 8, 5, 5)}),
        "search": graph(
            "search", {"x": (1, 3, 255, 255), "kernel0": (1, 8, 5, 5)},
            {"cls": (1, 2, 25, 25), "loc": (1, 4, 25, 25), "correlation": (1, 8, 25, 25)},
        ),
        "refine": graph("refine", {"correlation": (1, 8, 25, 25), "position": (2,)}, {"mask": (1, 63 * 63)}),
    }  # fmt: skip
    return Manifest(
        "model", "paper", Source("none", "0" * 64), graphs, Preprocessing(127, 255), ANCHORS, Tracking(0.1, 0.4, 0.3),
        {"cls": 0.0}, {}, strategies=Strategies(mask=MaskDecoding(0.3, 63)),
    )  # fmt: skip


def responding(strategies=None, angles=()):
    graphs = {
        "template": graph("template", {"z": (1, 3, 127, 127)}, {"kernel0": (1, 8, 6, 6)}),
        "search": graph("search", {"x": (1 + len(angles), 3, 255, 255), "kernel0": (1, 8, 6, 6)},
                        {"response": (1 + len(angles), 1, 17, 17)}),
    }  # fmt: skip
    wide = graph("search_831", {"x": (1, 3, 831, 831), "kernel0": (1, 8, 6, 6)}, {"response": (1, 1, 89, 89)})
    if strategies:
        graphs["search_831"] = wide
    return Manifest(
        "model", "paper", Source("none", "0" * 64), graphs, Preprocessing(127, 255),
        ResponseDecoding(17, 8, angles_rad=angles), ResponseTracking(0.97, 0.2, 0.5), {"response": 0.0}, {},
        strategies=strategies or Strategies(),
    )  # fmt: skip


def test_what_fits_is_accepted():
    assert masked().strategies.mask.mask_size == 63
    assert responding(angles=(0.4, -0.4)).decoding.candidates[1] == (1.0, 0.4)


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ({"correlation": (1, 8, 25, 25), "position": (2,)}, {"mask": (1, 127 * 127)}),
        ({"correlation": (1, 8, 25, 25), "position": (2,)}, {"masks": (1, 63 * 63)}),
        ({"features": (1, 8, 25, 25), "position": (2,)}, {"mask": (1, 63 * 63)}),
        ({"correlation": (1, 9, 25, 25), "position": (2,)}, {"mask": (1, 63 * 63)}),
    ],
    ids=["size", "name", "unknown input", "input of another shape"],
)
def test_a_refine_graph_that_does_not_fit(inputs, outputs):
    good = masked()
    with pytest.raises(ValueError, match="refine graph"):
        dataclasses.replace(good, graphs={**good.graphs, "refine": graph("refine", inputs, outputs)})


def test_a_response_map_is_not_searched_wider():
    with pytest.raises(ValueError, match="no other search sizes"):
        responding(Strategies(search=LongTermSearch((831,), 0.8, 0.9)))


@pytest.mark.parametrize("angle", [math.inf, math.nan])
def test_angles_are_finite(angle):
    with pytest.raises(ValueError, match="finite"):
        responding(angles=(angle,))


def proposing(loss=LOSS):
    """A plain tracker with a proposal head that knows when its target is lost."""
    graphs = {
        "template": graph("template", {"z": (1, 3, 127, 127)}, {"kernel0": (1, 8, 5, 5)}),
        "search": graph("search", {"x": (1, 3, 255, 255), "kernel0": (1, 8, 5, 5)},
                        {"cls": (1, 2, 25, 25), "loc": (1, 4, 25, 25)}),
    }  # fmt: skip
    return Manifest(
        "model", "paper", Source("none", "0" * 64), graphs, Preprocessing(127, 255), ANCHORS, Tracking(0.1, 0.4, 0.3),
        {"cls": 0.0}, {}, strategies=Strategies(loss=loss),
    )  # fmt: skip


def test_thresholds_are_kept_in_the_manifest_and_may_be_missing(tmp_path):
    manifest = proposing()
    save_manifest(manifest, tmp_path)
    assert load_manifest(tmp_path) == manifest
    raw = json.loads((tmp_path / "manifest.json").read_text())
    del raw["strategies"]["loss"]  # as bundles were written before
    (tmp_path / "manifest.json").write_text(json.dumps(raw))
    assert load_manifest(tmp_path) == dataclasses.replace(manifest, strategies=Strategies())


def test_thresholds_do_not_keep_targets_from_sharing_a_search():
    assert can_batch(ANCHORS, Strategies(loss=LOSS))
    assert dataclasses.replace(proposing(), batch=1).strategies.loss is LOSS


@pytest.mark.parametrize(
    "change",
    [
        {"score_weight": -0.1}, {"psr_weight": -0.1}, {"second_weight": -1.0}, {"similarity_weight": math.inf},
        {"similarity": math.nan}, {"lost": math.nan}, {"sought": math.nan}, {"sought": -1.5}, {"sought": 1.5},
        {"regained": math.inf}, {"lost": 2.0}, {"rate": 0.0}, {"rate": 1.1}, {"memory_rate": -0.1},
        {"memory_rate": 1.1}, {"searches": 0}, {"rings": 0},
    ],
    ids=lambda change: "{}={}".format(*next(iter(change.items()))),
)  # fmt: skip
def test_thresholds_that_make_no_sense(change):
    with pytest.raises(ValueError, match="loss detection"):
        proposing(dataclasses.replace(LOSS, **change))


def test_only_plain_trackers_with_proposals_know_when_they_are_lost():
    with pytest.raises(ValueError, match="loss detection needs a proposal head and no other strategy"):
        dataclasses.replace(masked(), strategies=Strategies(mask=MaskDecoding(0.3, 63), loss=LOSS))
    with pytest.raises(ValueError, match="loss detection needs a proposal head"):
        dataclasses.replace(responding(), strategies=Strategies(loss=LOSS))
