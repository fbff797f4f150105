"""Pairs: what is drawn, how often, and whether the box is where the object is."""

from __future__ import annotations

import functools
import json
import zlib
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pytest

from siamtrt.errors import TrainingError
from siamtrt.models.presets import get_preset
from siamtrt.tracking import AnchorDecoding, Preprocessing
from siamtrt.training import pairs as pairs_module
from siamtrt.training.augment import Appearance
from siamtrt.training.config import Config, Pairs, Schedule, Source
from siamtrt.training.pairs import PairSampler, pool_of, read_image, read_pools
from siamtrt.training.targets import TARGET
from siamtrt.training.tracks import Track

PLAIN = Appearance(colour=0, grey=0, flip=0, blur=0, small=0, noise=0, cover=0, fill=0, turn=0)
CROP = Preprocessing(template_size=31, search_size=79)
DECODING = AnchorDecoding(score_size=15, stride=3, ratios=(1.0,), scales=(5.0,))  # a target is 15.5 pixels
SHIFT = 16.0
STEADY = Pairs(shift=SHIFT, log_scale=0, log_aspect=0, template_shift=0, template_log_scale=0, negatives=0)
BINS, CRITICAL = 16, 37.697  # of chi-square with 15 degrees of freedom at p = 0.001
COUNT = 800


@dataclass(frozen=True)
class Scene:
    """A dark picture of (160, 200) pixels with one filled rectangle of a colour of its own for every box."""

    name: str
    boxes: tuple[tuple[int, int, int, int], ...]
    category: str | None = None


def tracks_of(folder: Path, *scenes: Scene) -> list[Track]:
    """The scenes as tracks; object n of all has the channels 80 + 25 * (n // 7) and so on, which `object_at` knows."""
    tracks: list[Track] = []
    for scene in scenes:
        image = np.full((160, 200, 3), 12, np.uint8)
        path = folder / f"{scene.name}.png"
        for x, y, w, h in scene.boxes:
            image[y : y + h, x : x + w] = colour(len(tracks))
            tracks.append(Track((str(path),), np.array([[x, y, w, h]], float), scene.name, scene.category))
        cv2.imwrite(str(path), image)
    return tracks


def colour(number: int) -> tuple[int, int, int]:
    return 90 + 25 * (number // 7), 90 + 25 * (number % 7), 240


def object_at(crop: np.ndarray, column: float, row: float) -> int:
    """The number of the object at a place in a crop."""
    blue, green, red = crop[round(row), round(column)].astype(int)
    assert red > 200, "nothing there"
    return round((blue - 90) / 25) * 7 + round((green - 90) / 25)


def objects_of(pair: pairs_module.Pair) -> tuple[int, int]:
    """What the template shows, and what the search crop's box holds."""
    template, search, _, _, box = pair
    middle = (search.shape[0] - 1) / 2
    return object_at(template, 15, 15), object_at(search, box[0] + middle, box[1] + middle)


def sampler_of(
    tracks: list[Track], rules: Pairs = STEADY, appearance: Appearance = PLAIN, seed: int = 0
) -> PairSampler:
    return PairSampler([pool_of(Source("a", "stills"), tracks)], CROP, DECODING, rules, appearance, seed)


@pytest.fixture(autouse=True)
def _read_once(monkeypatch):
    """Hundreds of pairs of a few pictures: decoding them again and again is most of the time."""
    monkeypatch.setattr(pairs_module, "read_image", functools.cache(read_image))


@pytest.fixture(scope="module")
def square(tmp_path_factory) -> list[Track]:
    """One object of 12 pixels in the middle of a picture."""
    return tracks_of(tmp_path_factory.mktemp("square"), Scene("square", ((94, 74, 12, 12),)))


@pytest.fixture(scope="module")
def stills(tmp_path_factory) -> list[Track]:
    """Objects 0 and 1 in one still, then 2, 3, 4, 5, 6 in one each; cats, a dog and what has no name."""
    one = ((94, 74, 14, 14),)
    return tracks_of(
        tmp_path_factory.mktemp("stills"), Scene("a", ((60, 60, 14, 14), (120, 90, 14, 14)), "cat"),
        Scene("b", one, "cat"), Scene("c", one, "cat"), Scene("d", one, "dog"), Scene("e", one), Scene("f", one),
    )  # fmt: skip


def chi_square(values: np.ndarray, reach: float) -> float:
    counts, _ = np.histogram(values, BINS, (-reach, reach))
    assert counts.sum() == len(values), "a value lies outside"
    expected = len(values) / BINS
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("flip", [0.0, 0.5])
def test_shifts_are_uniform_along_each_axis(square, flip):
    appearance = Appearance(**{**vars(PLAIN), "flip": flip})
    sampler = sampler_of(square, rules=Pairs(shift=SHIFT, negatives=0.2), appearance=appearance)
    shifts = np.array([sampler[index][4][:2] for index in range(COUNT)])
    assert chi_square(shifts[:, 0], SHIFT) < CRITICAL
    assert chi_square(shifts[:, 1], SHIFT) < CRITICAL
    assert abs(np.corrcoef(shifts.T)[0, 1]) < 0.1, "one axis follows the other"


def test_scales_and_aspects_reach_their_limits_and_no_further(square):
    sampler = sampler_of(square, rules=Pairs(shift=0, log_scale=0.3, log_aspect=0.2, negatives=0))
    logs = np.log(np.array([sampler[index][4][2:] for index in range(300)]) / 15.5)  # 12 pixels of 24, which are 31
    scales, aspects = -logs.mean(axis=1), np.diff(logs, axis=1)[:, 0]
    assert chi_square(scales, 0.3 + 1e-6) < CRITICAL
    assert chi_square(aspects, 0.2 + 1e-6) < CRITICAL
    assert abs(np.corrcoef(scales, aspects)[0, 1]) < 0.15


def bounds(crop: np.ndarray) -> np.ndarray:
    """cx, cy, w, h of what is bright, relative to the crop's centre."""
    rows, columns = np.nonzero(crop[..., 2] > 126)  # halfway between the object and what surrounds it
    centre = (crop.shape[0] - 1) / 2
    return np.array([
        (columns.min() + columns.max()) / 2 - centre, (rows.min() + rows.max()) / 2 - centre,
        np.ptp(columns) + 1, np.ptp(rows) + 1,
    ])  # fmt: skip


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("place", [(90, 70, 20, 12), (2, 140, 12, 20)], ids=["middle", "corner"])
def test_the_box_bounds_the_object_through_shift_scale_aspect_and_flip(tmp_path, flip, place):
    """With a real tracker's crops; half a pixel is what a bound can be off, a mean is not."""
    tracks = tracks_of(tmp_path, Scene("a", (place,)))
    preset = get_preset("siamrpn_mobilev2_l234_dwxcorr")
    rules = Pairs(shift=48, log_scale=0.3, log_aspect=0.3, negatives=0)
    appearance = Appearance(**{**vars(PLAIN), "flip": flip})
    pool = pool_of(Source("a", "stills"), tracks)
    sampler = PairSampler([pool], preset.preprocessing, preset.decoding, rules, appearance, 0)
    pairs = [sampler[index] for index in range(40)]
    apart = np.array([bounds(pair[1]) - pair[4] for pair in pairs])
    assert np.abs(apart).max() < 1.2
    assert np.abs(apart.mean(axis=0)).max() < 0.25
    assert np.ptp([pair[4] for pair in pairs], axis=0).min() > 8, "the boxes vary"
    middles = np.array([bounds(pair[0])[:2] for pair in pairs])
    assert 3 < np.abs(middles).max() < rules.template_shift + 0.6
    assert np.abs(middles.mean(axis=0)).max() < 1.2


def test_crops_have_the_trackers_scale_without_jitter(tmp_path):
    """A 16 x 12 box with a context of 14 is in a square of sqrt(30 * 26), which the template crop shows."""
    tracks = tracks_of(tmp_path, Scene("a", ((94, 74, 16, 12),)))
    pair = sampler_of(tracks, rules=Pairs(shift=0, log_scale=0, log_aspect=0, negatives=0))[0]
    zoom = 31 / np.sqrt(30 * 26)
    np.testing.assert_allclose(pair[4], [0, 0, 16 * zoom, 12 * zoom], rtol=1e-6)


def test_targets_lie_at_the_box(square):
    sampler = sampler_of(square)
    anchors = sampler.anchors
    for index in range(30):
        _, _, labels, offsets, box = sampler[index]
        chosen = labels == TARGET
        assert chosen.any()
        cx_cy = offsets[:2, chosen].T * anchors[chosen, 2:] + anchors[chosen, :2]
        w_h = np.exp(offsets[2:, chosen].T) * anchors[chosen, 2:]
        np.testing.assert_allclose(np.hstack([cx_cy, w_h]), np.tile(box, (chosen.sum(), 1)), rtol=1e-4, atol=1e-4)


def test_the_share_of_negatives_is_as_asked_and_only_they_show_another_object(stills):
    sampler = sampler_of(stills, rules=Pairs(**{**vars(STEADY), "negatives": 0.3}))
    negatives = 0
    for index in range(COUNT):
        pair = sampler[index]
        shown, searched = objects_of(pair)
        assert (pair[2] == TARGET).any() == (shown == searched)
        assert shown == searched or {shown, searched} != {0, 1}, "an object of the same still is in sight there"
        negatives += shown != searched
    assert abs(negatives / COUNT - 0.3) < 4 * np.sqrt(0.3 * 0.7 / COUNT)


def test_distractors_are_of_the_targets_category_where_there_are_others_of_it(stills):
    sampler = sampler_of(stills, rules=Pairs(**{**vars(STEADY), "negatives": 1.0, "distractors": 1.0}))
    drawn = [objects_of(sampler[index]) for index in range(300)]
    cats = {0, 1, 2, 3}
    assert {searched for _, searched in drawn} == set(range(7))
    assert all(shown in cats for shown, searched in drawn if searched in cats)
    assert {shown for shown, searched in drawn if searched == 4} - {4} > {0, 5}, "a lone dog's distractor is anything"
    never = sampler_of(stills, rules=Pairs(**{**vars(STEADY), "negatives": 1.0, "distractors": 0.0}))
    drawn = [objects_of(never[index]) for index in range(300)]
    assert {shown for shown, searched in drawn if searched in cats} == set(range(7))


def test_an_object_is_never_called_background_to_itself(square):
    """A source of one group has no other object: its pairs match, whatever the share of negatives."""
    sampler = sampler_of(square, rules=Pairs(**{**vars(STEADY), "negatives": 1.0}))
    assert all((sampler[index][2] == TARGET).any() for index in range(20))


def test_a_still_of_many_objects_counts_once(tmp_path):
    crowd = tuple((5 + 30 * (n % 6), 5 + 30 * (n // 6), 14, 14) for n in range(24))
    tracks = tracks_of(tmp_path, Scene("crowd", crowd), *(Scene(name, ((94, 74, 14, 14),)) for name in "abc"))
    sampler = sampler_of(tracks)
    drawn = Counter(objects_of(sampler[index])[1] for index in range(COUNT))
    assert abs(sum(drawn[n] for n in range(24)) / COUNT - 0.25) < 0.065
    assert len(drawn) == 27


def test_pools_are_drawn_from_by_their_weights(stills):
    pools = [pool_of(Source("a", "stills", weight=3.0), stills[:2]), pool_of(Source("b", "stills"), stills[2:])]
    sampler = PairSampler(pools, CROP, DECODING, STEADY, PLAIN, 0)
    of_first = sum(objects_of(sampler[index])[1] < 2 for index in range(COUNT))
    assert abs(of_first / COUNT - 0.75) < 0.065


def test_both_frames_of_a_video_are_drawn_from_all_of_it_within_the_span(tmp_path, monkeypatch):
    image = np.full((160, 200, 3), 200, np.uint8)
    seen: list[int] = []
    monkeypatch.setattr(pairs_module, "read_image", lambda path: seen.append(int(path)) or image)
    video = Track(tuple(map(str, range(30))), np.tile([90.0, 70, 20, 20], (30, 1)), "v")
    sampler = PairSampler([pool_of(Source("a", "videos", span=4), [video])], CROP, DECODING, STEADY, PLAIN, 0)
    for index in range(400):
        sampler[index]
    template, search = np.array(seen).reshape(-1, 2).T
    assert np.abs(template - search).max() == 4
    assert {*template} == {*search} == set(range(30))
    assert (template == search).mean() < 0.25


def test_another_videos_template_is_any_of_its_frames(monkeypatch):
    image = np.full((160, 200, 3), 200, np.uint8)
    seen: list[str] = []
    monkeypatch.setattr(pairs_module, "read_image", lambda path: seen.append(path) or image)
    videos = [Track(tuple(f"{n} {k}" for k in range(n)), np.tile([90.0, 70, 20, 20], (n, 1)), str(n)) for n in (3, 20)]
    sampler = sampler_of(videos, rules=Pairs(**{**vars(STEADY), "negatives": 1.0}))
    for index in range(200):
        sampler[index]
    assert all(template.split()[0] != search.split()[0] for template, search in zip(seen[::2], seen[1::2], strict=True))
    assert {*seen[::2]} == {*seen[1::2]} == {*videos[0].images, *videos[1].images}


def same(one: pairs_module.Pair, other: pairs_module.Pair) -> bool:
    return all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(one, other, strict=True))


def test_a_pair_is_the_same_whoever_asks(stills):
    rules = Pairs(shift=SHIFT, negatives=0.5)
    sampler = sampler_of(stills, rules=rules, appearance=Appearance(), seed=5)
    ahead = [sampler[index] for index in range(12)]
    back = [sampler_of(stills, rules=rules, appearance=Appearance(), seed=5)[index] for index in range(11, -1, -1)]
    with ProcessPoolExecutor(1, get_context("spawn")) as other:  # with hashes of its own
        elsewhere = list(other.map(sampler.__getitem__, range(12)))
    for index in range(12):
        assert same(ahead[index], back[11 - index])
        assert same(ahead[index], elsewhere[index])
    assert not any(same(ahead[index], ahead[index + 1]) for index in range(11))
    assert not same(ahead[0], sampler_of(stills, rules=rules, appearance=Appearance(), seed=6)[0])


def test_pairs_have_the_documented_shapes(stills):
    template, search, labels, offsets, box = sampler_of(stills, appearance=Appearance())[3]
    assert (template.shape, template.dtype) == ((31, 31, 3), np.uint8)
    assert (search.shape, search.dtype) == ((79, 79, 3), np.uint8)
    assert (labels.shape, labels.dtype) == ((225,), np.int64)
    assert (offsets.shape, offsets.dtype) == ((4, 225), np.float32)
    assert (box.shape, box.dtype) == ((4,), np.float32)
    assert all(crop.flags["C_CONTIGUOUS"] for crop in (template, search))


def config_of(folder: Path, images: list[dict[str, object]], **fields: object) -> Config:
    (folder / "a.json").write_text(json.dumps({"images": images}))
    source = Source(str(folder / "a.json"), "stills")
    return Config("m", "o", (source,), Schedule(1), **fields)  # type: ignore[arg-type]


@pytest.fixture
def many(tmp_path) -> tuple[Path, list[dict[str, object]]]:
    """80 stills of two objects; one picture under all names."""
    tracks_of(tmp_path, Scene("one", ((60, 60, 14, 14),)))
    boxes = [[60, 60, 14, 14], [90, 90, 20, 20]]
    for number in range(80):
        (tmp_path / f"{number}.png").hardlink_to(tmp_path / "one.png")
    return tmp_path, [{"image": f"{number}.png", "boxes": boxes} for number in range(80)]


def test_what_is_held_back_is_never_seen_in_training(many, monkeypatch):
    folder, images = many
    config = config_of(folder, images, held_back=0.2)
    (training,), (checking,) = read_pools(config)
    held = {name for track in checking.tracks for name in track.images}
    assert abs(len(held) / 80 - 0.2) < 0.14
    assert len(training.tracks) + len(checking.tracks) == 160
    read: set[str] = set()
    real = read_image
    monkeypatch.setattr(pairs_module, "read_image", lambda path: read.add(path) or real(path))
    rules = Pairs(shift=SHIFT, negatives=0.5)
    sampler = PairSampler([training], CROP, DECODING, rules, Appearance(fill=1.0), 0)
    for index in range(200):
        sampler[index]
    assert len(read) > 50
    assert not read & held
    backwards = read_pools(config_of(folder, images[::-1], held_back=0.2))[1][0]
    assert {name for track in backwards.tracks for name in track.images} == held, "the order of the data matters"


def test_holding_nothing_back_leaves_nothing_to_check_with(many):
    (training,), checking = read_pools(config_of(many[0], many[1], held_back=0.0))
    assert (len(training.tracks), checking) == (160, [])


def test_small_and_large_boxes_are_left_out(many):
    folder, _ = many
    boxes = [[0, 0, 7, 50], [0, 0, 8, 50], [0, 0, 120, 96], [0, 0, 121, 96]]
    rules = Pairs(min_side=8, max_share=0.6)
    images: list[dict[str, object]] = [{"image": "one.png", "boxes": boxes}]
    (training,), _ = read_pools(config_of(folder, images, held_back=0.0, pairs=rules))
    assert [track.boxes_xywh[0, 2] for track in training.tracks] == [8, 120]
    sized: list[dict[str, object]] = [{"image": "one.png", "boxes": boxes, "size": [400, 160]}]
    (training,), _ = read_pools(config_of(folder, sized, held_back=0.0, pairs=rules))
    assert len(training.tracks) == 3, "the size that the annotations say"


def test_frames_of_a_video_are_left_out_one_by_one(tmp_path):
    frames = [{"image": f"{number}.png", "box": [0, 0, 4 + number, 50]} for number in range(8)]
    (tmp_path / "v.json").write_text(json.dumps({"videos": [{"name": "v", "frames": frames}]}))
    tracks_of(tmp_path, Scene("0", ((60, 60, 14, 14),)))
    source = Source(str(tmp_path / "v.json"), "videos")
    (training,), _ = read_pools(Config("m", "o", (source,), Schedule(1), held_back=0.0))
    assert [Path(name).name for name in training.tracks[0].images] == ["4.png", "5.png", "6.png", "7.png"]
    assert training.tracks[0].boxes_xywh[:, 2].tolist() == [8, 9, 10, 11]


@pytest.mark.parametrize(("fields", "words"), [
    ({"pairs": Pairs(min_side=1000)}, r"no usable boxes.*min_side"),
    ({"held_back": 1.0}, r"all held back.*held_back"),
], ids=["small", "held back"])  # fmt: skip
def test_a_source_with_nothing_left_says_why(many, fields, words):
    with pytest.raises(TrainingError, match=words):
        read_pools(config_of(many[0], many[1][:1], **fields))


def test_an_image_that_is_missing_broken_or_too_large_is_named(tmp_path, square):
    _, whole = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))
    huge = bytearray(whole.tobytes())
    huge[16:24] = (60_000).to_bytes(4, "big") * 2
    huge[29:33] = zlib.crc32(huge[12:29]).to_bytes(4, "big")
    contents = {"missing.png": None, "text.png": b"text", "huge.png": bytes(huge)}
    for name, content in contents.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        track = Track((str(tmp_path / name),), square[0].boxes_xywh, "a")
        with pytest.raises(TrainingError, match=rf"unreadable training image.*{name}"):
            sampler_of([track])[0]
