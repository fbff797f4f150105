"""The got10k toolkit's own experiments run our default tracker on a folder of two sequences."""

from __future__ import annotations

import os

import numpy as np
import pytest

pytest.importorskip("got10k", reason="the got10k toolkit is not installed")
os.environ.setdefault("MPLBACKEND", "Agg")  # its reports draw plots

from got10k.experiments import ExperimentDTB70
from PIL import Image
from vot_folders import write_pictures

from siamtrt import Tracker
from siamtrt.benchmarks.evaluate import evaluate_bundles
from siamtrt.benchmarks.got10k_tracker import Got10kTracker
from siamtrt.default_tracker import default_bundle
from siamtrt.errors import BoxError
from siamtrt.runtime.sequences import read_boxes

DECIMALS = {"rtol": 0, "atol": 5.1e-4}  # it writes three


@pytest.fixture
def sequences(short_video):
    """Name -> frames and boxes."""
    mirrored = short_video.boxes_xywh * (-1, 1, 1, 1) + (short_video.frames.shape[2] - 40, 0, 0, 0)
    flipped = np.ascontiguousarray(short_video.frames[:, :, ::-1])
    return {"ball": (short_video.frames, short_video.boxes_xywh), "mirrored": (flipped, mirrored)}


@pytest.fixture
def dataset(sequences, tmp_path):
    """The same as a folder in DTB70's layout."""
    for name, (frames, boxes) in sequences.items():
        write_pictures(tmp_path / "data" / name / "img", frames)
        np.savetxt(tmp_path / "data" / name / "groundtruth_rect.txt", boxes, delimiter=",", fmt="%g")
    return tmp_path / "data"


@pytest.fixture
def tracker():
    with Tracker.load() as opened:
        yield opened


def picture(frame):
    """As its experiments open images: RGB."""
    return Image.fromarray(np.ascontiguousarray(frame[..., ::-1]))


def test_its_experiment_runs_the_default_tracker(sequences, dataset, tracker, tmp_path):
    """Its boxes are ours on the same frames, and those of `siamtrt eval`; its report is made of them."""
    ours = Got10kTracker(tracker)
    experiment = ExperimentDTB70(str(dataset), str(tmp_path / "results"), str(tmp_path / "reports"))
    experiment.run(ours)
    results = tmp_path / "results" / "DTB70" / ours.name
    evaluate_bundles([default_bundle()], dataset, tmp_path / "eval")
    (evaluated,) = (path for path in (tmp_path / "eval").iterdir() if path.is_dir())
    for name, (frames, boxes) in sequences.items():
        found = np.loadtxt(results / f"{name}.txt", delimiter=",")
        tracker.init(frames[0], boxes[0])
        expected = [boxes[0], *(tracker.update(frame).box_xywh for frame in frames[1:])]
        np.testing.assert_allclose(found, expected, **DECIMALS)
        np.testing.assert_allclose(found, read_boxes(evaluated / f"{name}.txt"), rtol=0, atol=1.1e-3)
    report = experiment.report([ours.name])[ours.name]
    assert set(report["seq_wise"]) == set(sequences)
    assert report["overall"]["success_score"] > 0.7
    assert report["overall"]["speed_fps"] > 0


@pytest.mark.parametrize("mode", ["L", "P"])
def test_grey_images_and_palettes(short_video, tracker, mode):
    """Its experiments on VOT do not convert them."""
    pictures = [picture(frame).convert(mode) for frame in short_video.frames[:3]]
    boxes = []
    for images in (pictures, [image.convert("RGB") for image in pictures]):
        ours = Got10kTracker(tracker)
        ours.init(images[0], short_video.boxes_xywh[0])
        boxes.append([ours.update(image) for image in images[1:]])
    np.testing.assert_array_equal(*boxes)


def test_names(tracker):
    assert Got10kTracker(tracker).name == tracker.manifest.model
    assert Got10kTracker(tracker, "ours").name == "ours"
    assert Got10kTracker(tracker).is_deterministic


def test_a_box_outside_the_image(short_video, tracker):
    with pytest.raises(BoxError, match="outside the frame"):
        Got10kTracker(tracker).init(picture(short_video.frames[0]), (400, 0, 20, 20))
