"""Manifests whose graphs do not fit their strategies are refused when they are read."""

from __future__ import annotations

import dataclasses
import math

import pytest

from siamtrt.manifest import GraphSpec, Manifest, Source, TensorSpec
from siamtrt.tracking import (
    AnchorDecoding,
    LongTermSearch,
    MaskDecoding,
    Preprocessing,
    ResponseDecoding,
    ResponseTracking,
    Strategies,
    Tracking,
)

ANCHORS = AnchorDecoding(25, 8, (1.0,), (8.0,))


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
