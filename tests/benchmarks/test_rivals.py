"""Rivals of `siamtrt bench --compare`: their names, their models, and OpenCV's trackers as OpenCV runs them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from siamtrt.benchmarks.rivals import OpenCvContender, chosen_rivals, opened_rivals, parse_models
from siamtrt.errors import BoxError, MissingPackageError, SiamtrtError

NANO, VIT = {"nano": ("b.onnx", "h.onnx")}, {"vit": ("v.onnx",)}


@pytest.fixture
def weights(shared_dir):
    """Model files of OpenCV's trackers by their short names."""
    folder = shared_dir / "weights"
    return {
        "mil": (), "nano": (folder / "nanotrackv2_backbone.onnx", folder / "nanotrackv2_head.onnx"),
        "vit": (folder / "vittrack.onnx",),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("compare", "models", "expected"),
    [
        ("opencv", {}, ("opencv:mil",)),
        ("opencv", NANO, ("opencv:mil", "opencv:nano")),
        ("opencv,torch", {**VIT, **NANO}, ("opencv:mil", "opencv:nano", "opencv:vit", "torch")),
        (" torch , opencv:vit ", VIT, ("torch", "opencv:vit")),
        ("opencv:mil,opencv,opencv", VIT, ("opencv:mil", "opencv:vit")),
    ],
)
def test_rivals_are_chosen(compare, models, expected):
    assert chosen_rivals(compare, models) == expected


@pytest.mark.parametrize(
    ("compare", "models", "message"),
    [
        ("", {}, "nothing to compare with"),
        (" , ", {}, "nothing to compare with"),
        ("pytorch", {}, "no such rival: received 'pytorch'"),
        ("mil", {}, "no such rival"),
        ("opencv:", {}, "no such rival"),
        ("opencv:nano", VIT, "opencv:nano without its model"),
        ("opencv:mil", VIT, "a model that nothing compares: received --opencv-model vit"),
        ("torch", NANO, "a model that nothing compares: received --opencv-model nano"),
    ],
)
def test_rivals_refused(compare, models, message):
    with pytest.raises(SiamtrtError, match=message):
        chosen_rivals(compare, models)


def test_models_are_read(tmp_path):
    paths = [tmp_path / name for name in ("b=1.onnx", "h.onnx", "v.onnx")]
    for path in paths:
        path.touch()
    backbone, head, vit = paths
    models = parse_models([f"vit={vit}", f"nano={backbone},{head}"])
    assert models == {"vit": (vit,), "nano": (backbone, head)}
    with pytest.raises(SiamtrtError, match="each once"):
        parse_models([f"vit={vit}", f"vit={vit}"])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nano=THERE", "received 'nano="), ("vit=THERE,THERE", "received 'vit="), ("vit", "received 'vit'"),
        ("vit=", "received 'vit='"), ("mil=THERE", "received 'mil="), ("kcf=THERE", "received 'kcf="),
        ("=THERE", "received '="), ("nano=THERE,absent.onnx", "received no file absent.onnx;"),
    ],
)  # fmt: skip
def test_models_refused(tmp_path, spec, message):
    there = tmp_path / "model.onnx"
    there.touch()
    with pytest.raises(SiamtrtError, match=r"nano=BACKBONE.onnx,NECKHEAD.onnx, vit=NET.onnx") as caught:
        parse_models([spec.replace("THERE", str(there))])
    assert message in str(caught.value)


@pytest.mark.parametrize("short", ["nano", "vit"])
def test_opencv_gives_its_own_boxes(weights, short_video, short):
    """As a script of OpenCV's has them."""
    kind = {"nano": "TrackerNano", "vit": "TrackerVit"}[short]
    parameters = getattr(cv2, f"{kind}_Params")()
    names = {"nano": ("backbone", "neckhead"), "vit": ("net",)}[short]
    for name, path in zip(names, weights[short], strict=True):
        setattr(parameters, name, str(path))
    theirs, ours = getattr(cv2, f"{kind}_create")(parameters), OpenCvContender(short, weights[short])
    theirs.init(short_video.frames[0], (60, 80, 40, 40))
    ours.init(short_video.frames[0], (60.4, 79.6, 40.0, 40.3))  # to whole pixels
    for frame in short_video.frames[1:]:
        found, box = theirs.update(frame)
        assert ours.update(frame) == (tuple(box) if found else None)


def test_opencv_says_that_it_has_lost_the_target(weights, short_video):
    vit = OpenCvContender("vit", weights["vit"])
    vit.init(short_video.frames[0], short_video.boxes_xywh[0])
    assert vit.update(np.zeros_like(short_video.frames[0])) is None


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((60, 80, 4.4, 40), "sides of at least 5 pixels"),  # it would not come back
        ((-30, 80, 34, 40), "received 0,80,4,40"),
        ((316.2, 80, 40, 40), "received 316,80,4,40"),
    ],
)
def test_targets_that_opencv_cannot_take(short_video, box, message):
    with pytest.raises(BoxError, match=message):
        OpenCvContender("mil", ()).init(short_video.frames[0], box)


def test_what_opencv_refuses_is_ours_to_say(short_video):
    with pytest.raises(SiamtrtError, match=r"opencv:mil cannot start on the first frame.*leave opencv:mil out"):
        OpenCvContender("mil", ()).init(short_video.frames[0], (0, 0, 320, 240))


def test_models_that_opencv_cannot_read(tmp_path, weights, short_video):
    text = tmp_path / "text.onnx"
    text.write_text("text")
    with pytest.raises(SiamtrtError, match=r"opencv:vit cannot read .*text.onnx"):
        OpenCvContender("vit", (text,))
    swapped = OpenCvContender("nano", weights["nano"][::-1])
    with pytest.raises(SiamtrtError, match="backbone and then neckhead"):
        swapped.init(short_video.frames[0], short_video.boxes_xywh[0])


def test_an_opencv_without_the_tracker(monkeypatch):
    monkeypatch.delattr(cv2, "TrackerMIL_create")
    with pytest.raises(MissingPackageError, match="no TrackerMIL"):
        OpenCvContender("mil", ())


def test_threads_are_for_all_and_only_for_the_comparison(tiny_bundle, tiny_checkpoint):
    torch = pytest.importorskip("torch", reason="needs the export extra")
    before = cv2.getNumThreads(), torch.get_num_threads()
    wanted = max(before) + 1
    names = ("opencv:mil", "torch")
    with opened_rivals(
        names, {}, tiny_bundle, ours="onnxruntime", threads=wanted, checkpoint=tiny_checkpoint
    ) as rivals:
        assert [(rival.name, rival.threads) for rival in rivals] == [("opencv:mil", wanted), ("torch", wanted)]
        assert (cv2.getNumThreads(), torch.get_num_threads()) == (wanted, wanted)
    assert (cv2.getNumThreads(), torch.get_num_threads()) == before


def test_without_rivals_threads_stay(tiny_bundle):
    before = cv2.getNumThreads()
    with opened_rivals((), {}, tiny_bundle, ours="onnxruntime", threads=3, checkpoint=None) as rivals:
        assert (rivals, cv2.getNumThreads()) == ([], before)


def test_pytorch_beside_itself(tiny_bundle, tiny_checkpoint):
    with (
        pytest.raises(SiamtrtError, match="PyTorch beside itself"),
        opened_rivals(("torch",), {}, tiny_bundle, ours="torch", threads=None, checkpoint=tiny_checkpoint),
    ):
        pass
