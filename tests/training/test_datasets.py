"""Data sets as a config names them."""

from __future__ import annotations

import json
import pickle

import cv2
import numpy as np
import pytest

from siamtrt.errors import TrainingError
from siamtrt.training.datasets import read_tracks
from siamtrt.training.tracks import Track


def test_an_unknown_form_names_the_known_ones(tmp_path):
    with pytest.raises(TrainingError, match=r"received yolo; expected one of stills, videos, coco, sequences, crops"):
        read_tracks(tmp_path, "yolo")


@pytest.mark.parametrize("document", [{"images": []}, {"images": [{"image": "a.jpg", "boxes": []}]}])
def test_nothing_to_train_on_is_refused(tmp_path, document):
    (tmp_path / "a.json").write_text(json.dumps(document))
    with pytest.raises(TrainingError, match=r"no objects.*a\.json"):
        read_tracks(tmp_path / "a.json", "stills")


def test_a_missing_first_image_is_named_before_any_training(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"images": [{"image": "sub/a.png", "boxes": [[1, 1, 5, 5]]}]}))
    with pytest.raises(TrainingError, match=r"missing.*sub/a\.png"):
        read_tracks(tmp_path / "a.json", "stills")
    (tmp_path / "sub").mkdir()
    cv2.imwrite(str(tmp_path / "sub" / "a.png"), np.zeros((9, 9, 3), np.uint8))
    assert len(read_tracks(tmp_path / "a.json", "stills")) == 1


def test_a_track_goes_to_another_process_whole():
    track = Track(("a.jpg",), np.ones((1, 4)), "a", "cat", (3, 4))
    again = pickle.loads(pickle.dumps(track))
    np.testing.assert_array_equal(again.boxes_xywh, track.boxes_xywh)
    assert (again.images, again.group, again.category, again.size_wh) == (("a.jpg",), "a", "cat", (3, 4))
