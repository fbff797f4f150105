"""Rendered scenes: the same seed gives the same pixels, and the box is where the target is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from siamtrt.errors import MissingPackageError, SiamtrtError
from siamtrt.training.scenes import (
    PHOTOS,
    Scene,
    load_photo,
    make_scene,
    random_wave,
    render_scene,
    write_scene_video,
)

pytest.importorskip("skimage", reason="the photos are scikit-image's")


def without_target(scene: Scene) -> Scene:
    return replace(scene, target=replace(scene.target, texture=np.zeros_like(scene.target.texture)))


def test_same_seed_same_pixels():
    for (one, box), (again, same_box) in zip(render_scene(5, 3), render_scene(5, 3), strict=True):
        np.testing.assert_array_equal(one, again)
        assert box == same_box


def test_frames_do_not_depend_on_the_order_they_are_asked_for():
    scene = make_scene(5)
    late, early = scene.frame(2), scene.frame(0)
    frames = [frame for frame, _ in render_scene(5, 3)]
    np.testing.assert_array_equal(early, frames[0])
    np.testing.assert_array_equal(late, frames[2])


def test_another_seed_gives_another_scene():
    assert (make_scene(1).frame(0) != make_scene(2).frame(0)).mean() > 0.5


def test_frames_are_bgr_bytes_of_the_asked_size_and_change():
    frames = [frame for frame, _ in render_scene(3, 2, size=(321, 243))]
    assert [frame.shape for frame in frames] == [(243, 321, 3)] * 2
    assert frames[0].dtype == np.uint8
    assert (frames[0] != frames[1]).any()


@pytest.mark.parametrize("seed", range(6))
def test_box_bounds_the_pixels_the_target_covers(seed):
    scene = replace(make_scene(seed), blur=0.0)
    for index in (0, 37):
        x, y, w, h = (int(value) for value in scene.box(index))
        (left, top), layer = scene.target.layer(index, scene.size)
        rows, columns = np.nonzero(layer[..., 3] > 0.5)
        assert (columns.min() + left, rows.min() + top) == (x, y)
        assert (np.ptp(columns) + 1, np.ptp(rows) + 1) == (w, h)
        changed = (scene.frame(index) != without_target(scene).frame(index)).any(axis=2)
        inside = np.zeros_like(changed)
        inside[y : y + h, x : x + w] = True
        soft_edge = 6
        near = cv2.dilate(inside.astype(np.uint8), np.ones((2 * soft_edge + 1,) * 2)).astype(bool)
        assert not changed[~near].any()
        assert changed[inside].mean() > 0.4  # a polygon may fill little more than half of its bounds


@pytest.mark.parametrize("size", [(640, 360), (200, 300), (160, 120)])
def test_boxes_stay_inside_the_frame_and_move_smoothly(size):
    for seed in range(8):
        scene = make_scene(seed, size)
        boxes = np.array([scene.box(index) for index in range(0, 400, 1 if seed == 0 else 9)])
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, :2] + boxes[:, 2:] <= size).all()
        assert (boxes[:, 2:] >= 8).all()
        if seed == 0:
            centres = boxes[:, :2] + boxes[:, 2:] / 2
            assert np.abs(np.diff(centres, axis=0)).max() <= size[1] / 60 + 2  # edges are whole pixels
            assert np.ptp(centres, axis=0).max() > 20 * size[1] / 360


def test_wave_keeps_its_range_and_its_pace():
    for seed in range(20):
        wave = random_wave(np.random.default_rng(seed), -3.0, 7.0, 0.5)
        values = np.array([wave(index) for index in range(2000)])
        assert values.min() >= -3.0
        assert values.max() <= 7.0
        assert np.abs(np.diff(values)).max() <= 0.5


def test_video_and_boxes_are_written_together(tmp_path: Path):
    path = tmp_path / "scene.mp4"
    boxes_path = write_scene_video(path, seed=4, frames=5, size=(320, 240))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["scene.mp4", "scene.txt"]
    boxes = np.loadtxt(boxes_path, delimiter=",")
    expected = list(render_scene(4, 5, size=(320, 240)))
    np.testing.assert_array_equal(boxes, [box for _, box in expected])
    video = cv2.VideoCapture(str(path))
    frames = []
    while (read := video.read())[0]:
        frames.append(read[1])
    assert len(frames) == 5
    # the codec is lossy: a few grey levels on average
    assert np.abs(frames[3].astype(int) - expected[3][0]).mean() < 12


def test_a_failed_video_leaves_nothing(tmp_path: Path):
    with pytest.raises(SiamtrtError, match="mp4"):
        write_scene_video(tmp_path / "scene.nothing", seed=0, frames=2, size=(320, 240))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("size", "photos"), [((100, 360), PHOTOS), ((640, 360), PHOTOS[:1])])
def test_rejects_scenes_it_cannot_make(size, photos):
    with pytest.raises(SiamtrtError, match="160x120"):
        make_scene(0, size, photos)


def test_names_the_package_that_ships_the_photos():
    with pytest.raises(MissingPackageError, match="scikit-image"):
        load_photo("no such photo.png")


def test_photos_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        load_photo("coffee.png")[0, 0, 0] = 1
