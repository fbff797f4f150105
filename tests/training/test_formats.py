"""Readers of annotations: hand-made data sets of each form, then broken and hostile ones."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from siamtrt.errors import SourceError, TrainingError
from siamtrt.training import formats
from siamtrt.training.datasets import FORMATS, read_tracks
from siamtrt.training.formats import coco_of, crops_of, sequences_of, stills_of, videos_of
from siamtrt.training.tracks import Track

PICTURE = np.full((48, 64, 3), 90, np.uint8)
OUTSIDE = ["../up.jpg", "a/../../up.jpg", "/etc/up.jpg", "", ".", "a\\up.jpg", "a\0.jpg"]
NODES = [None, 5, "x", "\ud800", [], {"a": 1}, float("inf"), 10**400]

STILLS = {"images": [{"image": "a.png", "size": [64, 48], "boxes": [[1, 2, 3, 4], [5, 6, 7.5, 8]]},
                     {"image": "b.png", "boxes": [[9, 9, 9, 9]]}]}  # fmt: skip
VIDEOS = {"videos": [{"name": "v", "frames": [{"image": "a.png", "box": [1, 2, 3, 4]},
                                              {"image": "b.png", "box": [2, 3, 4, 5]}]}]}  # fmt: skip
COCO = {
    "images": [{"id": 7, "file_name": "a.png", "width": 64, "height": 48}, {"id": 9, "file_name": "sub/b.png"}],
    "categories": [{"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}],
    "annotations": [
        {"image_id": 9, "category_id": 3, "bbox": [1, 2, 3, 4], "iscrowd": 0, "segmentation": [[1, 2, 3, 4]]},
        {"image_id": 7, "category_id": 1, "bbox": [5, 6, 7.5, 8], "iscrowd": 0},
        {"image_id": 7, "category_id": 1, "bbox": [0, 0, 64, 48], "iscrowd": 1},
        {"image_id": 7, "category_id": 1, "bbox": [5, 6, 0, 8], "iscrowd": 0},
        {"image_id": 7, "category_id": 3, "bbox": [5, 6, 7, float("nan")]},
    ],
}
CROPS = {"train/v": {"00": {"000002": [10, 20, 50, 50], "000010": [10, 20, 51, 50], "000001": [10, 20, 10, 50]},
                     "01": {"000002": [30, 20]}}}  # fmt: skip
DOCUMENTS = {"stills": STILLS, "videos": VIDEOS, "coco": COCO, "crops": CROPS}
IMAGES = ("a.png", "b.png", "sub/b.png", "crop511/train/v/000002.00.x.jpg", "crop511/train/v/000002.01.x.jpg")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the images that the documents name."""
    for name in IMAGES:
        write_picture(tmp_path / name)
    return tmp_path


def write_picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", PICTURE)[1].tobytes())


def written(folder: Path, document: object) -> Path:
    path = folder / "instances_train.json"
    path.write_text(json.dumps(document))
    return path


def rows(tracks: list[Track]) -> list[Any]:
    """The tracks as plain values, images relative to the working folder's last two names."""
    return [(track.images, track.boxes_xywh.tolist(), track.group, track.category, track.size_wh) for track in tracks]


def test_stills(folder):
    assert rows(read_tracks(written(folder, STILLS), "stills")) == [
        ((f"{folder}/a.png",), [[1, 2, 3, 4]], "a.png", None, (64, 48)),
        ((f"{folder}/a.png",), [[5, 6, 7.5, 8]], "a.png", None, (64, 48)),
        ((f"{folder}/b.png",), [[9, 9, 9, 9]], "b.png", None, None),
    ]


def test_videos(folder):
    assert rows(read_tracks(written(folder, VIDEOS), "videos")) == [
        ((f"{folder}/a.png", f"{folder}/b.png"), [[1, 2, 3, 4], [2, 3, 4, 5]], "v", None, None)
    ]


@pytest.mark.parametrize("box", [[1, 2, 0, 4], [1, 2, 3, -4], [1, 2, float("nan"), 4]])
def test_stills_and_videos_refuse_a_box_without_extent(folder, box):
    with pytest.raises(TrainingError, match="no extent"):
        stills_of(written(folder, {"images": [{"image": "a.png", "boxes": [[1, 2, 3, 4], box]}]}))
    with pytest.raises(TrainingError, match="no extent"):
        videos_of(written(folder, {"videos": [{"name": "v", "frames": [{"image": "a.png", "box": box}]}]}))


def test_coco_has_categories_and_neither_crowds_nor_empty_boxes(folder):
    assert rows(read_tracks(written(folder, COCO), "coco")) == [
        ((f"{folder}/sub/b.png",), [[1, 2, 3, 4]], "sub/b.png", "dog", None),
        ((f"{folder}/a.png",), [[5, 6, 7.5, 8]], "a.png", "cat", (64, 48)),
    ]


@pytest.mark.parametrize("place", ["x/annotations", "x/annotations/images", "x/annotations/train", "x", "x/images",
                                   "x/train"])  # fmt: skip
def test_coco_finds_its_images_beside_the_file_or_a_folder_up(tmp_path, place):
    (tmp_path / "x" / "annotations").mkdir(parents=True)
    for name in ("a.png", "sub/b.png"):
        write_picture(tmp_path / place / name)
    tracks = coco_of(written(tmp_path / "x" / "annotations", COCO))
    assert Path(tracks[1].images[0]).samefile(tmp_path / place / "a.png")


def test_coco_without_its_images_says_where_they_belong(tmp_path):
    with pytest.raises(TrainingError, match=r"sub/b\.png.*images.*unpack"):
        coco_of(written(tmp_path, COCO))


def test_crops_leave_out_what_has_no_extent_and_sort_frames_by_number(folder):
    tracks = read_tracks(written(folder, CROPS), "crops")
    assert [track.images for track in tracks] == [
        (f"{folder}/crop511/train/v/000002.00.x.jpg", f"{folder}/crop511/train/v/000010.00.x.jpg"),
        (f"{folder}/crop511/train/v/000002.01.x.jpg",),
    ]
    assert {track.group for track in tracks} == {"train/v"}
    assert {track.size_wh for track in tracks} == {(511, 511)}
    unordered = {"v": {"00": {"9": [0, 0, 4, 4], "10": [0, 0, 4, 4], "frames": [9, 10]}}}
    assert [Path(name).name for name in crops_of(written(folder, unordered))[0].images] == ["9.00.x.jpg", "10.00.x.jpg"]


@pytest.mark.parametrize("size", [511, 255])
@pytest.mark.parametrize("corners", [(100, 80, 160, 120), (100, 80, 130, 200), (20, 30, 32, 40)])
def test_boxes_of_crops_bound_the_object_in_the_crop_that_pysots_recipe_cuts(tmp_path, size, corners):
    """par_crop.py: a square of side s * size / 127 about the box's middle, its corners on the crop's corner pixels."""
    image = np.zeros((240, 320, 3), np.uint8)
    left, top, right, bottom = corners
    cv2.rectangle(image, (left, top), (right, bottom), (255, 255, 255), cv2.FILLED)  # both corners belong to it
    width, height = right - left, bottom - top
    margin = (width + height) / 2
    side = np.sqrt((width + margin) * (height + margin)) * size / 127
    middle = np.array([left + right, top + bottom]) / 2
    corner = middle - side / 2
    zoom = (size - 1) / side
    crop = cv2.warpAffine(image, np.column_stack([np.eye(2) * zoom, -zoom * corner]), (size, size))
    (tmp_path / f"crop{size}").mkdir()

    box = crops_of(written(tmp_path, {"v": {"00": {"000000": corners}}}))[0].boxes_xywh[0]

    across = np.flatnonzero(crop[size // 2, :, 0] > 127)
    down = np.flatnonzero(crop[:, size // 2, 0] > 127)
    seen = np.array([across[0], down[0], len(across) - zoom, len(down) - zoom])  # the recipe's width lacks a pixel
    np.testing.assert_allclose(box[2:], seen[2:], atol=1)
    np.testing.assert_allclose(box[:2] + (box[2:] - 1) / 2, (size - 1) / 2)
    np.testing.assert_allclose([across.mean(), down.mean()], (size - 1) / 2, atol=0.51)


def test_crops_refuse_shares_of_the_frame(folder):
    shares = {"train/v": {"00": {"000002": [0.1, 0.2, 0.5, 0.9]}}}
    with pytest.raises(TrainingError, match=r"shares of the frame.*multiply"):
        crops_of(written(folder, shares))
    assert len(crops_of(written(folder, {"train/v": {**shares["train/v"], "01": {"000002": [1, 1, 9, 9]}}}))) == 2


@pytest.mark.parametrize("folders", [(), ("crop511", "crop255"), ("crops", "crop5")])
def test_crops_need_one_folder_of_crops(tmp_path, folders):
    for name in folders:
        (tmp_path / name).mkdir()
    with pytest.raises(TrainingError, match="no folder of crops"):
        crops_of(written(tmp_path, CROPS))


def sequence_folder(folder: Path, lines: list[str], images: str, truth: str, **files: str) -> Path:
    for number in range(1, len(lines) + 1):
        write_picture(folder / images / f"{number:08d}.jpg")
    (folder / truth).write_text("\n".join(lines))
    for name, text in files.items():
        (folder / name.replace("_label", ".label").replace("_ini", ".ini").replace("_txt", ".txt")).write_text(text)
    return folder


def test_got10k_leaves_out_absent_frames_and_knows_categories(tmp_path):
    lines = ["1,2,30,20", "2,2,30,20", "3,2,30,20", "4,2,0,0", "5,2,30,20"]
    sequence_folder(
        tmp_path / "train" / "GOT-10k_Train_000001", lines, ".", "groundtruth.txt", absence_label="0\n1\n0\n0\n0",
        cover_label="8\n8\n0\n8\n8", meta_info_ini="[METAINFO]\nurl: u\nobject_class: flat fish\nmajor_class: fish\n",
    )  # fmt: skip
    track = read_tracks(tmp_path / "train", "sequences")[0]
    assert [Path(name).stem for name in track.images] == ["00000001", "00000005"]
    assert track.boxes_xywh[:, 0].tolist() == [1, 5]
    assert (track.group, track.category) == ("train/GOT-10k_Train_000001", "flat fish")


def test_every_layout_that_is_evaluated_can_be_trained_on(tmp_path):
    lines = ["1,2,30,20", "nan,nan,nan,nan", "3,2,30,20"]
    root = tmp_path / "data"
    for target in ("1", "2"):
        sequence_folder(root / "otb" / "Jogging", lines, "img", f"groundtruth_rect.{target}.txt")
    sequence_folder(
        root / "lasot" / "airplane-1", lines, "img", "groundtruth.txt", full_occlusion_txt="0,0,0",
        out_of_view_txt="0,0,1",
    )  # fmt: skip
    (root / "net" / "anno").mkdir(parents=True)
    sequence_folder(root / "net", lines, "frames/clip", "anno/clip.txt")
    found = [(t.group, t.category, t.boxes_xywh[:, 0].tolist()) for t in sequences_of(root)]
    assert found == [
        ("data/otb/Jogging/img", None, [1, 3]), ("data/otb/Jogging/img", None, [1, 3]),
        ("data/lasot/airplane-1/img", "airplane", [1]), ("data/net/frames/clip", None, [1, 3]),
    ]  # fmt: skip


def test_groups_of_sequences_do_not_depend_on_where_the_data_lie(tmp_path, monkeypatch):
    sequence_folder(tmp_path / "data" / "clip", ["1,2,30,20"] * 2, "img", "groundtruth_rect.txt")
    monkeypatch.chdir(tmp_path / "data" / "clip")
    assert sequences_of(Path())[0].group == sequences_of(tmp_path / "data" / "clip")[0].group == "clip/img"
    monkeypatch.chdir(tmp_path)
    assert sequences_of(Path("data"))[0].group == sequences_of(tmp_path / "data")[0].group == "data/clip/img"


def test_a_test_split_a_video_and_an_empty_folder_are_refused(tmp_path):
    with pytest.raises(SourceError, match="no sequences"):
        read_tracks(tmp_path, "sequences")
    (tmp_path / "clip.mp4").write_bytes(b"")
    (tmp_path / "clip.txt").write_text("1,2,30,20\n1,2,30,20\n")
    with pytest.raises(TrainingError, match=r"clip\.mp4.*ffmpeg"):
        read_tracks(tmp_path, "sequences")
    (tmp_path / "clip.mp4").unlink()
    sequence_folder(tmp_path / "GOT-10k_Test_000001", ["1,2,30,20"], ".", "groundtruth.txt")
    with pytest.raises(SourceError, match="more than one frame"):
        read_tracks(tmp_path, "sequences")


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_never_lead_out_of_the_folder(folder, name):
    stills, videos, coco = (copy.deepcopy(DOCUMENTS[form]) for form in ("stills", "videos", "coco"))
    stills["images"][1]["image"] = videos["videos"][0]["frames"][1]["image"] = coco["images"][0]["file_name"] = name
    for reader, document in ((stills_of, stills), (videos_of, videos), (coco_of, coco)):
        with pytest.raises(TrainingError, match="leaves the folder"):
            reader(written(folder, document))


@pytest.mark.parametrize(("video", "number"), [("../up", "00"), ("/etc", "00"), ("v", "../../../up"), ("a\\b", "00")])
def test_crops_never_lead_out_of_the_folder(folder, video, number):
    with pytest.raises(TrainingError, match="leaves the folder"):
        crops_of(written(folder, {video: {number: {"000000": [0, 0, 9, 9]}}}))


def replaced(document: Any) -> Iterator[Any]:
    """The document with one of its values replaced or removed, for each of them."""
    keys = list(document) if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else ()
    for key in keys:
        for node in NODES:
            changed = copy.copy(document)
            changed[key] = node
            yield changed
        without = copy.copy(document)
        del without[key]
        yield without
        for inner in replaced(document[key]):
            changed = copy.copy(document)
            changed[key] = inner
            yield changed


@pytest.mark.parametrize("form", DOCUMENTS)
def test_a_broken_document_is_refused_with_its_name_or_still_makes_sense(folder, monkeypatch, form):
    refused, path = [], folder / "instances_train.json"
    for document in [*replaced(DOCUMENTS[form]), *NODES]:
        monkeypatch.setattr(formats, "read_json", lambda *_, content=document: content)  # a file each takes seconds
        try:
            tracks = FORMATS[form](path)
        except TrainingError as error:
            refused.append(str(error))
            continue
        for track in tracks:
            assert len(track.images) == len(track.boxes_xywh) > 0
            assert np.isfinite(track.boxes_xywh).all()
            assert track.boxes_xywh[:, 2:].min() > 0
            assert track.group.encode()
            assert track.category is None or isinstance(track.category, str)
    assert len(refused) > len(NODES)
    assert all(str(path) in message for message in refused)


@pytest.mark.parametrize("form", DOCUMENTS)
@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, "\udcff"], ids=["empty", "cut", "deep", "not UTF-8"])
def test_a_file_that_is_no_json_is_refused(folder, form, content):
    path = folder / "cut.json"
    path.write_text(content, errors="surrogateescape")
    with pytest.raises(TrainingError, match=r"unreadable annotations.*cut\.json"):
        read_tracks(path, form)


@pytest.mark.parametrize("form", DOCUMENTS)
def test_a_missing_file_and_a_folder_are_refused(folder, form):
    for path in (folder / "none.json", folder):
        with pytest.raises(TrainingError, match="unreadable annotations"):
            read_tracks(path, form)
