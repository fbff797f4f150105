"""Films to try loss detection on, runs that serve several thresholds, what is chosen, the command."""

from __future__ import annotations

import dataclasses
import json

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from loss_data import save_frames, write_videos
from toy import save_toy, toy_models

from siamtrt.benchmarks import loss_loops
from siamtrt.benchmarks.loss import run_cut
from siamtrt.benchmarks.loss_loops import Looped, Row, as_table, chosen, measured, policies_of, row_of, runs_of
from siamtrt.benchmarks.loss_scores import WatchedRun
from siamtrt.benchmarks.loss_videos import Film, View, cut_films, to_and_fro, whole_films
from siamtrt.default_tracker import default_bundle
from siamtrt.errors import SiamtrtError, TrainingError
from siamtrt.fitted_loss import load_fitted_loss
from siamtrt.manifest import load_manifest
from siamtrt.runtime.session import open_sessions
from siamtrt.runtime.watched import WatchedTracker
from siamtrt.tracking import LossDetection, Strategies
from siamtrt.training.loss_evidence import AS_IT_IS, CHANGES, SMALLEST_SIDE, Clip, tracks_of
from siamtrt.training.tracks import Track

POLICY = LossDetection(0.1466, 0.1484, 0.05982, 12.54, 0.7213, uncertain=1.0, lost=-1.25, regained=0.25)
BOX = (10.0, 10.0, 20.0, 20.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_videos(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def tracks(data):
    return tracks_of(data, 40, 0)


@pytest.fixture(scope="module")
def opened():
    manifest, sessions = open_sessions(default_bundle(), threads=1)
    yield manifest, sessions
    for session in sessions.values():
        session.close()


@pytest.fixture(scope="module")
def looped(opened):
    return Looped(*opened)


@pytest.fixture(scope="module")
def film(short_video, tmp_path_factory):
    """The short video's beginning, nine frames of noise, and the beginning again, seen elsewhere."""
    names, other = save_frames(short_video.frames, tmp_path_factory.mktemp("film"))
    own, again = (Clip(names[:count], short_video.boxes_xywh[:count]) for count in (8, 6))
    return Film("film", own, Clip([other] * 9, np.zeros((9, 4))), again, View(1.2, -40.0, 5.0))


def really(opened, film, policy):
    """The film through a tracker with just this policy."""
    manifest, sessions = opened
    return run_cut(WatchedTracker(dataclasses.replace(manifest, strategies=Strategies(loss=policy)), sessions), film)


@pytest.mark.parametrize("sought", [-1.0, 0.5])
def test_a_run_is_that_of_each_threshold(opened, looped, film, sought):
    """Frame by frame; and it is not the same one each time."""
    policies = policies_of(POLICY, [sought], [sought, sought - 1, -9.0])
    runs = runs_of(looped.with_policy(policies[0]), film, policies)
    for policy, run in zip(policies, runs, strict=True):
        real = really(opened, film, policy)
        assert run.statuses == real.statuses
        np.testing.assert_array_equal(run.boxes_xywh, real.boxes_xywh)
        np.testing.assert_array_equal(run.truth_xywh, real.truth_xywh)
    lost = [int(run.lost.sum()) for run in runs]
    assert lost[0] > lost[1] > lost[2] == 0
    assert "locked" in runs[0].statuses[17:], "it is looked for, and found again"


def test_rows_are_in_the_order_of_the_policies(opened, looped, film, monkeypatch):
    """Those that share `sought` are of one run of each film."""
    whole = Film("whole", film.before)
    pairs = [(0, -1.5), (-1, -1.5), (0, 0)]
    policies = [dataclasses.replace(POLICY, sought=sought, lost=lost) for sought, lost in pairs]
    films = []
    monkeypatch.setattr(loss_loops, "runs_of", lambda *given: films.append(given[1].name) or runs_of(*given))
    rows = measured(looped, policies, [whole], [film])
    assert films == ["whole", "film"] * 2
    assert [(row.sought, row.lost) for row in rows] == pairs
    for row, policy in zip(rows[1:], policies[1:], strict=True):
        assert row == row_of(policy, [really(opened, whole, policy)], [really(opened, film, policy)])
    assert rows[0].away < rows[2].away


def test_scores_of_a_row():
    def run(statuses, visible, off=()):
        boxes = [(200.0, 10.0, 20.0, 20.0) if number in off else BOX for number in range(len(statuses))]
        truth = [BOX if flag == "+" else [np.nan] * 4 for flag in visible]
        names = [{"L": "locked", "x": "lost", "u": "uncertain"}[letter] for letter in statuses]
        return WatchedRun("run", tuple(names), np.array(boxes), np.array(truth))

    whole = [run("LLLLLL", "++++++"), run("LxxLLL", "++++++", [2, 3, 4])]
    cut = [run("LLxxLL", "++--++"), run("LLuxxx", "++--++"), run("LLuuxL", "++--++", [5]), run("LLuuxL", "++--++")]
    row = row_of(dataclasses.replace(POLICY, sought=-1.0, lost=-2.0), whole, cut)
    assert dataclasses.astuple(row) == pytest.approx((-1.0, -2.0, 2 / 10, 2 / 4, 2 / 4, 1.5 / 4, 0.75 * 20 / 21))
    several = [cut[0], *cut[2:]]
    assert (row_of(POLICY, whole, several).noticed, row_of(POLICY, whole, several).regained) == (1 / 3, 2 / 3)


def row(lost, false_loss, noticed, regained=0.5):
    return Row(-1.0, lost, false_loss, noticed, regained, 0.5, 0.6)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([row(-1, 0.09, 1.0), row(-2, 0.05, 0.9), row(-3, 0.01, 0.89)], 1),
        ([row(-1, 0.04, 0.9), row(-2, 0.05, 1.0)], 0),
        ([row(-1, 0.05, 0.9, 0.5), row(-2, 0.05, 0.95, 0.6), row(-3, 0.05, 0.95, 0.6)], 1),
        ([row(-1, 0.0, 0.89)], None),
    ],
    ids=["enough noticed", "least lost", "more regained", "none"],
)
def test_choice(rows, expected):
    found = chosen(rows)
    assert found is (None if expected is None else rows[expected])
    last = as_table(rows, 40).splitlines()[-1]
    assert ("raise lost" in last) if found is None else (f"and lost {found.lost:g} say LOST" in last)


def test_thresholds_to_try():
    def pairs(*given):
        return [(policy.sought, policy.lost) for policy in policies_of(POLICY, *given)]

    below = (-1.0, -1.25, -1.5, -1.75, -2.0, -2.5)
    assert pairs([], []) == [(-1.0, lost) for lost in below]
    assert pairs([-1.0, 0.0], []) == [*[(-1.0, lost) for lost in below], *[(0.0, lost + 1) for lost in below]]
    assert pairs([0.0, -1.0], [-0.5, -1.0, -1.0]) == [(0.0, -0.5), (0.0, -1.0), (-1.0, -1.0)]
    assert policies_of(POLICY, [], [-2.0]) == [dataclasses.replace(POLICY, lost=-2.0)]
    with pytest.raises(SiamtrtError, match="no thresholds to try"):
        pairs([-1.0], [0.0])


def test_to_and_fro():
    assert to_and_fro(3, 8).tolist() == [0, 1, 2, 1, 0, 1, 2, 1]
    assert to_and_fro(2, 5).tolist() == [0, 1, 0, 1, 0]
    assert to_and_fro(40, 40).tolist() == list(range(40))


@pytest.mark.parametrize("view", [View(1.5, -20.0, 10.0), View(0.6, 31.25, 3.5), View(1.0, 4.0, -2.0)])
def test_boxes_of_a_view_are_where_the_target_is(view):
    """To a twentieth of a pixel, by the moments of a smooth blob of known place."""
    across, down = np.meshgrid(np.arange(120) + 0.5, np.arange(90) + 0.5)
    box = np.array([40.0, 30.0, 24.0, 16.0])
    blob = np.exp(-(((across - 52) / 5) ** 2) - ((down - 38) / 4) ** 2)
    seen = view.frame_of(blob)
    left, top, width, height = view.boxes_of(box)
    near = (abs(across - left - width / 2) < width) & (abs(down - top - height / 2) < height)  # no mirrored one
    seen = seen * near
    x, y = ((seen * where).sum() / seen.sum() for where in (across, down))
    assert (x, y) == pytest.approx((left + width / 2, top + height / 2), abs=0.05)
    assert (width, height) == pytest.approx(view.zoom * box[2:])
    assert seen.sum() == pytest.approx(view.zoom**2 * blob.sum(), rel=0.02)
    assert view.boxes_of(np.array([box, box])).tolist() == [view.boxes_of(box).tolist()] * 2


def test_beyond_the_borders_the_frame_is_mirrored():
    frame = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    seen = View(1.0, 5.0, 0.0).frame_of(frame)
    np.testing.assert_array_equal(seen[:, 5:], frame[:, :35])
    np.testing.assert_array_equal(seen[:, :5], frame[:, 4::-1])


def part(frame, box):
    """(16, 16, 3) what is in a box."""
    (x, y), (w, h) = box[:2], box[2:]
    matrix = np.array([[w / 16, 0, x + w / 32 - 0.5], [0, h / 16, y + h / 32 - 0.5]])
    return cv2.warpAffine(frame, matrix, (16, 16), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP).astype(float)


def test_films_with_a_cut(tracks):
    films = cut_films(tracks, 0)
    assert len(films) == 2 * len(tracks)
    assert sum(film.after.scale == 1 for film in films) >= 2
    for number, film in enumerate(films):
        frames, truth = map(list, zip(*film.frames(), strict=True))
        start = len(film.before.images)
        visible = np.isfinite(truth).all(axis=1)
        assert 20 <= start < 50
        assert visible.tolist() == [True] * start + [False] * 40 + [True] * 30
        assert {frame.shape for frame in frames} == {frames[0].shape}
        own = {image.split("/")[-1][0] for image in (*film.before.images, *film.after.images)}
        assert own == {str(number // 2)}
        assert not own & {image.split("/")[-1][0] for image in film.foreign.images}
        for at, clip, index in ((start - 1, film.before, start - 1), (start + 40, film.after, 0), (-1, film.after, 29)):
            frame, box = clip.shown(index)
            if clip is film.before:
                np.testing.assert_array_equal(frames[at], frame)
                np.testing.assert_array_equal(truth[at], box)
                continue
            np.testing.assert_array_equal(frames[at], film.view.frame_of(frame))
            if clip.scale == 1:  # smaller ones show too little of the pattern
                assert np.abs(part(frames[at], truth[at]) - part(frame, box)).mean() < 8
        frame, _ = film.foreign.shown(3)
        size = frames[0].shape[1::-1]
        np.testing.assert_array_equal(frames[start + 3], cv2.resize(frame, size, interpolation=cv2.INTER_AREA))
        after, box = np.array(truth[start + 40 :]), film.after.shown(0)[1]
        centres = after[:, :2] + after[:, 2:] / 2
        assert ((centres >= 0) & (centres < size)).all()
        moved = centres[0] - box[:2] - box[2:] / 2
        assert (abs(moved) <= (1.2, 0.7) * box[2:]).all()
    views = {film.view for film in films}
    assert len(views) == len(films), "each has its own"
    assert max(view.zoom for view in views) > 1 > min(view.zoom for view in views)


def views_with(boxes, folder):
    cv2.imwrite(str(folder / "0.png"), np.zeros((60, 100, 3), np.uint8))
    tracks = [Track((str(folder / "0.png"),) * len(boxes), np.array(boxes, float), f"{name}") for name in range(9)]
    return [(film.view, film.after.shown(0)[1], film.after.shown(0)[0].shape) for film in cut_films(tracks, 0)]


def test_a_target_that_no_view_holds_is_seen_as_it_was(tmp_path):
    """It is left of the frame, then right of it."""
    found = views_with([[-500, 10, 22, 22], [500, 10, 22, 22]] * 10, tmp_path)
    assert {view for view, _, _ in found} == {View()}


@pytest.mark.parametrize("corner", [(-10, -10), (-10, 48), (88, -10), (88, 48)])
def test_no_view_leaves_the_target_out(tmp_path, corner):
    """Of a target whose centre is all but outside."""
    moved = 0
    for view, box, shape in views_with([[*corner, 22, 22]] * 10, tmp_path):
        x, y, w, h = view.boxes_of(box)
        assert 0 <= x + w / 2 < shape[1]
        assert 0 <= y + h / 2 < shape[0]
        moved += view != View()
    assert moved > 9, "of 18"


def test_every_video_is_seen_in_every_change_and_from_both_ends(tracks):
    whole, cut = whole_films(tracks, 0), cut_films(tracks, 0)
    assert len(whole) == 2 * len(tracks)
    for number, track in enumerate(tracks):
        films = (*whole[2 * number :][:2], *cut[2 * number :][:2])
        assert {film.before.change for film in films} == {*CHANGES}
        assert [film.before.images[0] for film in films] == [track.images[0], track.images[-1]] * 2
        assert len({film.name for film in films}) == 4
        for film in films:
            smaller = np.sqrt(film.before.boxes_xywh[:, 2:].prod(axis=1)) * film.before.scale
            assert np.median(smaller) >= SMALLEST_SIDE - 1e-9
            for clip in (film.before, film.after):
                assert clip.boxes_xywh.tolist() == [
                    track.boxes_xywh[track.images.index(image)].tolist() for image in clip.images
                ]
            steps = [abs(track.images.index(a) - track.images.index(b))
                     for a, b in zip(film.before.images, film.before.images[1:], strict=False)]  # fmt: skip
            assert {*steps} == {1}
    assert len({film.before.scale for film in whole}) > 1
    assert {len(film.before.images) for film in whole} == {150}
    assert AS_IT_IS in {film.foreign.change for film in cut_films(tracks * 4, 0)}


def test_films_follow_from_the_seed(tracks):
    def plain(films):
        return [(film.view, *((list(clip.images), clip.boxes_xywh.tolist(), clip.change, clip.scale)
                              for clip in (film.before, film.foreign, film.after))) for film in films]  # fmt: skip

    for make in (whole_films, cut_films):
        assert plain(make(tracks, 3)) == plain(make(tracks, 3)) != plain(make(tracks, 4))


def test_a_long_video_is_seen_in_part():
    boxes = np.tile([10.0, 10, 30, 30], (400, 1))
    track = Track(tuple(f"{number}" for number in range(400)), boxes, "long")
    forwards, backwards = whole_films([track], 0)
    numbers = list(map(int, forwards.before.images))
    assert numbers == list(range(numbers[0], numbers[0] + 150))
    assert numbers[0] not in (0, 250)
    numbers = list(map(int, backwards.before.images))
    assert numbers == list(range(numbers[0], numbers[0] - 150, -1))


def test_frames_of_different_sizes_are_named(looped, film, tmp_path):
    cv2.imwrite(str(tmp_path / "small.png"), np.zeros((50, 60, 3), np.uint8))
    odd = dataclasses.replace(film.before, images=[*film.before.images[:2], str(tmp_path / "small.png")])
    with pytest.raises(TrainingError, match="a video that cannot be followed: received odd one"):
        runs_of(looped.with_policy(POLICY), Film("odd one", odd), [POLICY])


def command(*arguments):
    return CliRunner().invoke(loss_loops.main, [str(argument) for argument in arguments])


def fit_of(policy):
    """As loss_fit writes it for the default tracker."""
    manifest = load_manifest(default_bundle())
    source = dataclasses.asdict(manifest.source)
    return json.dumps({"model": manifest.model, "source": source, "held": 60, "loss": dataclasses.asdict(policy)})


@pytest.fixture
def known(monkeypatch):
    """Rows that need no tracker; what was measured."""
    calls = []

    def rows(tracker, policies, whole, cut, progress):
        calls.append((tracker, policies, whole, cut))
        return [Row(policy.sought, policy.lost, 0.5 + policy.lost / 100, 0.95, 0.8, 0.5, 0.6) for policy in policies]

    monkeypatch.setattr(loss_loops, "measured", rows)
    return calls


def test_the_command(data, tracks, tmp_path, known, monkeypatch):
    """With the default tracker, its own numbers and the usual thresholds."""
    drawn = []
    monkeypatch.setattr(loss_loops, "tracks_of", lambda *given: drawn.append(given) or tracks)
    result = command("--data", data, "-o", tmp_path / "loops.json", "--seed", 3)
    assert result.exit_code == 0, result.output
    (_, policies, whole, cut), manifest = known[0], load_manifest(default_bundle())
    own = manifest.strategies.loss
    assert policies == policies_of(own, [], [])
    assert drawn == [(data, 40, 3)]
    assert [film.before.scale for film in whole] == [film.before.scale for film in whole_films(tracks, 3)]
    assert [film.view for film in cut] == [film.view for film in cut_films(tracks, 3)]
    lines = result.stdout.splitlines()
    assert lines[2].startswith(f"| {own.sought:g} | {own.sought:g} | ")
    assert lines[2].endswith(" % | 95.0 % | 80.0 % | 50.0 % | 0.600 |")
    assert "of 10 disappearances" in lines[-1]
    content = json.loads((tmp_path / "loops.json").read_text())
    assert (content["model"], content["videos"], content["seed"]) == (manifest.model, 5, 3)
    assert [(row["sought"], row["lost"]) for row in content["rows"]] == [(row.sought, row.lost) for row in policies]
    best = load_fitted_loss(tmp_path / "loops.json")
    assert best.loss == policies[-1], "the least of `rows`, for `siamtrt loss`"
    assert best.source == manifest.source


def test_the_command_with_a_fit(data, tmp_path, known):
    fitted = dataclasses.replace(POLICY, score_weight=0.25, rate=1)
    (tmp_path / "fit.json").write_text(fit_of(fitted))
    few = ("--videos", 5, "--sought", 0, "--sought", -1, "--lost", -1, "--lost", 0)
    result = command("--data", data, "--fit", tmp_path / "fit.json", *few)
    assert result.exit_code == 0, result.output
    assert known[0][1] == policies_of(fitted, [0.0, -1.0], [-1.0, 0.0])


def test_nothing_is_chosen_where_none_notices_enough(data, tmp_path, monkeypatch):
    monkeypatch.setattr(loss_loops, "measured", lambda *_, **__: [Row(-1.0, -2.0, 0.1, 0.5, 0.8, 0.5, 0.6)])
    result = command("--data", data, "-o", tmp_path / "loops.json")
    assert (result.exit_code, result.stdout.splitlines()[-1][:13]) == (0, "None of these")
    assert json.loads((tmp_path / "loops.json").read_text())["loss"] is None


def test_mistakes_are_one_line(data, tmp_path, known):
    toy = save_toy(toy_models(), tmp_path / "toy")
    fit = tmp_path / "fit.json"
    cases = [
        ("no fitted loss detection", [], "{}"),
        ("cannot be used", [], fit_of(dataclasses.replace(POLICY, rate=float("nan")))),
        ("searches of loss detection", [], fit_of(dataclasses.replace(POLICY, searches=1))),
        ("loss detection of another tracker", [toy], fit_of(POLICY)),
        ("no loss detection", [toy], None),
        ("no bundle", [tmp_path / "no bundle"], None),
        ("too few videos", ["--data", write_videos(tmp_path / "few", 4)], None),
        ("no thresholds to try", ["--lost", 3], None),
        ("cannot be used", ["--lost", "-inf"], None),
        ("no thresholds to try", ["--sought", "nan"], None),
        ("lost <= sought <= uncertain", ["--sought", 3, "--lost", 0], None),
        ("cannot write the output", ["-o", tmp_path / "nowhere" / "loops.json"], None),
    ]
    for problem, arguments, content in cases:
        if content is not None:
            fit.write_text(content)
            arguments = [*arguments, "--fit", fit]
        result = command("--data", data, *arguments)
        assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1), (problem, result.output)
        assert problem in result.stderr
        assert result.stdout == ""
    assert known == [], "nothing began"
