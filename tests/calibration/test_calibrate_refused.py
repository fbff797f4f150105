"""What calibration refuses and leaves as it was, and what it does instead where it can."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folders import snapshot
from onnx import ModelProto
from toy import save_toy, set_weight, toy_models, weight_of

from siamtrt.calibration.calibrate import Options, calibrate
from siamtrt.errors import BoxError, CalibrationError, SiamtrtError, SourceError

QUICK = Options(pairs=8, threads=1)
MIN_MAX = dataclasses.replace(QUICK, ranges="min-max")


def boxes_of(folder: Path, video: Any, boxes: np.ndarray) -> list[object]:
    shutil.copy(video.path, folder / "short.avi")
    np.savetxt(folder / "short.txt", boxes, "%g", ",")
    return [folder / "short.avi"]


def visible_in(video: Any, *frames: int) -> np.ndarray:
    boxes = np.full_like(video.boxes_xywh, np.nan)
    boxes[list(frames)] = video.boxes_xywh[list(frames)]
    return boxes


REFUSED: dict[str, tuple[Any, type[SiamtrtError], str]] = {
    "too few asked for": (
        lambda folder, video: (boxes_of(folder, video, video.boxes_xywh), Options(pairs=7)),
        CalibrationError, r"too few pairs: received 7 asked for, 66 in 1 sequence.*Fix: ask for more",
    ),
    "too few there": (
        lambda folder, video: (boxes_of(folder, video, visible_in(video, 0, 1, 2)), MIN_MAX),
        CalibrationError, r"too few pairs: received 8 asked for, 3 in 1 sequence.*Fix: add sequences",
    ),
    "absent throughout": (
        lambda folder, video: (boxes_of(folder, video, visible_in(video)), MIN_MAX),
        CalibrationError, "no target to calibrate with: received 1 sequence in which it is absent from every frame",
    ),
    "outside the frame": (
        lambda folder, video: (boxes_of(folder, video, video.boxes_xywh + 4000), MIN_MAX),
        CalibrationError, "no target to calibrate with",
    ),
    "without boxes": (
        lambda folder, video: ([shutil.copy(video.path, folder / "bare.avi")], MIN_MAX),
        SourceError, r"source without boxes: received .*bare.avi.*Fix: append the target's box in the first frame",
    ),
    "no source": (lambda folder, video: ([], MIN_MAX), SourceError, "no sequences: received an empty list"),
    "nothing there": (lambda folder, video: ([folder / "x.mp4"], MIN_MAX), SourceError, "no such source"),
    "twice": (
        lambda folder, video: (boxes_of(folder, video, video.boxes_xywh) * 2, MIN_MAX),
        SourceError, "a sequence twice",
    ),
    "first box outside": (
        lambda folder, video: ([f"{video.path}:900,900,20,20"], MIN_MAX), BoxError, "target box outside the frame",
    ),
    "first box of three": (
        lambda folder, video: ([f"{video.path}:9,9,20"], MIN_MAX), SourceError, "unreadable first box",
    ),
    "more boxes than frames": (
        lambda folder, video: (boxes_of(folder, video, np.tile(video.boxes_xywh, (2, 1))), MIN_MAX),
        SourceError, "short",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(toy_bundle: Path, short_video: Any, tmp_path: Path, name: str) -> None:
    make, kind, text = REFUSED[name]
    folder = tmp_path / "given"
    folder.mkdir()
    sources, options = make(folder, short_video)
    before = snapshot(toy_bundle)
    with pytest.raises(kind, match=text) as caught:
        calibrate(toy_bundle, sources, options)
    assert type(caught.value) is kind
    assert snapshot(toy_bundle) == before


def spoilt(graph: str, weight: str, value: float) -> dict[str, ModelProto]:
    models = toy_models()
    array = weight_of(models[graph], weight)
    array.flat[0] = value
    set_weight(models[graph], weight, array)
    return models


@pytest.mark.parametrize(
    ("graph", "weight", "tensor", "value"),
    [
        ("template", "template_weight", "features", np.nan), ("template", "template_weight", "features", 3e38),
        ("search", "cls_bias", "cls", np.nan), ("search", "loc_bias", "loc", 1e3),
    ],
)  # fmt: skip
def test_activations_that_are_not_finite(
    tmp_path: Path, source: Path, short_video: Any, graph: str, weight: str, tensor: str, value: float
) -> None:
    """A NaN among the weights, or weights that overflow."""
    bundle = save_toy(spoilt(graph, weight, value), tmp_path / "bundle")
    before = snapshot(bundle)
    with pytest.raises(CalibrationError, match=rf"cannot calibrate tensor '{tensor}': received \d+ NaN and"):
        calibrate(bundle, [source], QUICK)
    with pytest.raises(CalibrationError, match="short cannot be labelled: received FP32 outputs that are not finite"):
        calibrate(bundle, [f"{source}:{short_video.init}"], QUICK)
    assert snapshot(bundle) == before


@pytest.mark.parametrize("value", [-100.0, 3.0], ids=["zero", "constant"])
def test_a_template_tensor_that_is_constant(tmp_path: Path, source: Path, value: float) -> None:
    """All pairs give the same: zero is noted and has the range 1; another value is a range like any."""
    models = toy_models()
    set_weight(models["template"], "template_weight", np.zeros_like(weight_of(models["template"], "template_weight")))
    set_weight(models["template"], "template_bias", np.full(8, value, np.float32))
    set_weight(models["search"], "squeeze_bias", np.full(8, 2.0, np.float32))  # a gate that is open
    bundle = save_toy(models, tmp_path / "bundle")
    found = calibrate(bundle, [source], QUICK)
    if value < 0:
        assert found.zero == {"template": ("kernel0",), "search": ("kernel0", "response", "mean", "gated")}
        assert set(found.ranges["search"]["gated"].proposed.values()) == {1.0}
    else:
        assert found.zero == {"template": (), "search": ()}
        assert found.largest["template"]["kernel0"] == 3.0
    assert found.chosen.damage.drop <= QUICK.max_iou_drop


def test_a_sequence_without_the_target_is_noted(
    toy_bundle: Path, source: Path, short_video: Any, tmp_path: Path
) -> None:
    boxes_of(tmp_path, short_video, visible_in(short_video))
    (tmp_path / "short.avi").rename(tmp_path / "empty.avi")
    (tmp_path / "short.txt").rename(tmp_path / "empty.txt")
    found = calibrate(toy_bundle, [source, tmp_path / "empty.avi"], dataclasses.replace(MIN_MAX, pairs=500))
    assert (found.skipped, found.pairs) == (("empty",), 66)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ranges": "best"}, "best"),
        ({"max_iou_drop": 1.01}, "1.01"),
        ({"max_iou_drop": float("nan")}, "nan"),
        ({"seed": -1}, "-1"),
    ],
)
def test_unusable_options(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(
        CalibrationError, match=f"unusable options: received .*{said}.*expected ranges of auto, min-max"
    ):
        Options(**changes)
