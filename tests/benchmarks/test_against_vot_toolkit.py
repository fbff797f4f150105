"""Our measures beside those of the Python `vot-toolkit`, to 1e-6 where the rules are the same, and how far where not.

Ours follow the toolkit for MATLAB and pysot's, which published scores come from. The Python one draws a rectangle of w
pixels as we draw one of w - 1, and polygons with their tips; upright polygons on whole pixels are the same for both. It
counts an interval's frames from 0.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

try:
    import numba

    numba.config.DISABLE_JIT = True  # compiling takes longer than all these tests
    import vot.region  # noqa: F401
except (ImportError, TypeError) as error:  # attributee 0.1.10 fails to import on Python 3.11 and later; 0.1.9 does not
    pytest.skip(f"the vot-toolkit is not installed, or does not import: {error}", allow_module_level=True)

from vot.analysis.longterm import (
    FScoreCurve,
    PrecisionRecall,
    PrecisionRecallCurve,
    compute_tpr_curves,
    determine_thresholds,
)
from vot.analysis.supervised import compute_accuracy, compute_eao_curve, count_failures, locate_failures_inits
from vot.dataset.common import read_sequence_legacy
from vot.region import Polygon, Special, calculate_overlaps
from vot.tracker import OnlineTrackerRuntime, RealtimeTrackerRuntime
from vot.tracker.results import Results
from vot.tracker.results import Trajectory as TheirTrajectory
from vot.utilities.data import Grid
from vot.workspace.storage import LocalStorage
from vot_folders import polygon_line, write_vot_sequence

from siamtrt.benchmarks.long_term import long_term_run_of, precision_recall, score_long_term, thresholds_of
from siamtrt.benchmarks.overlap import overlaps
from siamtrt.benchmarks.protocols import LONG_TERM
from siamtrt.benchmarks.regions import FAILED, INITIALISED, SKIPPED, Trajectory, corners_of
from siamtrt.benchmarks.supervised import RealTime, VotRun
from siamtrt.benchmarks.vot import accuracy, average_on, expected_overlap_curve, run_of
from siamtrt.benchmarks.vot_runs import save_vot_run
from siamtrt.runtime.sequences import find_sequences

EXACT = {"rtol": 0, "atol": 1e-6}
SIZE = (160, 120)
LENGTHS = (60, 41, 33)
OVERLAP_GAP = 0.02  # most that the rules of drawing differ by, of polygons of some 30 pixels


def wandering(rng, frames):
    """(F, 4) whole rectangles inside the frame or partly out of it."""
    corners = np.add((40, 30), rng.integers(-4, 5, (frames, 2)).cumsum(axis=0))
    return np.hstack([corners, rng.integers(20, 40, (frames, 2))]).astype(float)


def supervised(rng, frames, late=False):
    """Regions of a run with a failure in the middle, or with one too late for another start, and the truth."""
    truth = wandering(rng, frames)
    regions = [tuple(box) for box in (truth + rng.integers(-9, 10, truth.shape) * (1, 1, 0.5, 0.5)).round().tolist()]
    lost = frames - 3 if late else frames // 2
    regions[0] = (INITIALISED,)
    regions[lost : lost + 5] = [(FAILED,), *[(SKIPPED,)] * len(regions[lost + 1 : lost + 5])]
    if lost + 5 < frames:
        regions[lost + 5] = (INITIALISED,)
    return regions, truth


def theirs(region):
    """A code, or a rectangle as the polygon that they draw as we do."""
    if len(region) < 4:
        return Special(int(region[0]))
    x, y, w, h = region
    return Polygon([(x, y), (x + w, y), (x + w, y + h), (x, y + h)])


@pytest.fixture(scope="module")
def runs():
    """Per sequence our run and theirs, both with their overlaps, without a failure too late for another start."""
    rng = np.random.default_rng(5)
    return [compared(*supervised(rng, frames)) for frames in LENGTHS]


def compared(regions, truth):
    trajectory = Trajectory(tuple(regions))
    sequence = SimpleNamespace(groundtruth=lambda: [theirs(tuple(box)) for box in truth.tolist()], size=SIZE)
    their_regions = [theirs(region) for region in regions]
    shared = np.array(calculate_overlaps(their_regions, sequence.groundtruth(), SIZE))
    ours = run_of(trajectory, corners_of([tuple(box) for box in truth.tolist()]), SIZE)
    np.testing.assert_allclose(np.nan_to_num(ours.overlaps), shared, **EXACT)
    return SimpleNamespace(ours=ours, regions=their_regions, sequence=sequence, overlaps=shared)


# --- overlap


def test_overlap_on_whole_pixels():
    """But for a shared column or row alone, which is no overlap of ours."""
    rng = np.random.default_rng(0)
    a = np.hstack([rng.integers(-20, 150, (150, 2)), rng.integers(1, 40, (150, 2))])
    b = a + np.hstack([rng.integers(-20, 20, (150, 2)), rng.integers(0, 9, (150, 2))])
    boxes = [[tuple(map(float, box)) for box in many.tolist()] for many in (a, b)]
    ours = overlaps(*map(corners_of, boxes), SIZE)
    expected = np.array(calculate_overlaps(*([theirs(box) for box in many] for many in boxes), SIZE))
    last = np.array(SIZE) - 1
    low, high = (np.clip([box[:, :2] + part * box[:, 2:] for box in (a, b)], 0, last) for part in (0, 1))
    touching = (high.min(axis=0) == low.max(axis=0)).any(axis=1)
    assert touching.mean() < 0.5
    np.testing.assert_allclose(ours[~touching], expected[~touching], **EXACT)
    assert (ours > 0).sum() > 50


def test_overlap_of_polygons_is_near():
    """They fill the tips of polygons, too, and round halves to even."""
    rng = np.random.default_rng(1)
    angles = np.sort(rng.uniform(0, 2 * np.pi, (60, 4)), axis=1)
    a = rng.uniform(40, 80, (60, 1, 2)) + 20 * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    b = a + rng.uniform(-6, 6, (60, 1, 2))
    drawn = [[Polygon([tuple(corner) for corner in polygon]) for polygon in many] for many in (a, b)]
    expected = calculate_overlaps(*drawn, SIZE)
    off = np.abs(overlaps(a, b, SIZE) - expected)
    assert off.max() < 5 * OVERLAP_GAP
    assert off.mean() < OVERLAP_GAP


# --- supervised


def test_accuracy_of_a_sequence(runs):
    for run in runs:
        expected, counted = compute_accuracy(run.regions, run.sequence)
        assert counted
        np.testing.assert_allclose(accuracy({"one": [run.ours]}), expected, **EXACT)


def test_failures(runs):
    for run in runs:
        assert run.ours.failures == count_failures(run.regions)[0] == 1


def their_curve(runs):
    fragments, ends = [], []
    for run in runs:
        failures, starts = locate_failures_inits(run.regions)
        fragments += [run.overlaps[start:end] for start, end in zip(starts, failures, strict=False)]
        ends += [False] * len(failures)
        if len(starts) > len(failures):
            fragments.append(run.overlaps[starts[-1] :])
            ends.append(True)
    return compute_eao_curve(fragments, [1] * len(fragments), ends)


def our_curve(runs):
    return expected_overlap_curve({str(index): [run.ours] for index, run in enumerate(runs)})


def test_expected_overlap(runs):
    """One frame, the start itself, is 1 for us and its overlap, 0, for them; their index 7 is 8 frames."""
    expected, curve = their_curve(runs), our_curve(runs)
    np.testing.assert_allclose(curve[1 : len(expected)], expected[1:], **EXACT)
    np.testing.assert_allclose(average_on(curve, (8, 30)), np.mean(expected[7:30]), **EXACT)


def test_a_failure_too_late_for_another_start_counts_on_for_them_alone(runs):
    late = [*runs, compared(*supervised(np.random.default_rng(6), 20, late=True))]
    expected, curve = their_curve(late), our_curve(late)
    np.testing.assert_allclose(curve[1:20], expected[1:20], **EXACT)
    assert (curve[20 : len(expected)] > expected[20:] + 0.01).all()


# --- real time


class Timed(OnlineTrackerRuntime):
    """Each update takes as long."""

    def __init__(self, seconds):
        super().__init__(None)
        self.seconds = seconds

    def initialize(self, frame, new=None):
        return "given", 0

    def update(self, frame, new=None):
        return f"region {frame}", self.seconds

    def stop(self):
        """Nothing runs."""

    restart = stop


class Follow:
    """The same for us."""

    def __init__(self, ms):
        self.ms = ms

    def init(self, frame, box_xywh):
        """Nothing to do."""

    def update(self, frame):
        return f"region {frame}", self.ms


@pytest.mark.parametrize("ms", [20, 49, 70, 120, 180, 333])
def test_real_time_is_theirs_but_for_the_frame_that_they_let_a_tracker_be_late(ms):
    runtime = RealtimeTrackerRuntime(Timed((ms + 50) / 1e3), grace=0, interval=0.05)
    runtime.initialize(0)
    ours = RealTime(Follow(float(ms)), 20.0, None)
    ours.init(None, ())
    assert [ours.update(frame)[0] for frame in range(1, 40)] == [runtime.update(frame)[0] for frame in range(1, 40)]


# --- long-term


def long_term(rng, frames):
    """Regions with confidences, some of them equal, and a truth with absences."""
    truth = wandering(rng, frames)
    boxes = (truth + rng.integers(-12, 13, truth.shape) * (1, 1, 0.3, 0.3)).round()
    regions = [(INITIALISED,), *(tuple(box) for box in boxes[1:].tolist())]
    regions[frames // 3] = (SKIPPED,)
    absent = rng.random(frames) < 0.3
    absent[[0, frames // 3]] = False  # nothing where nothing is overlaps wholly for them; we follow the older toolkits
    our_truth = [() if gone else tuple(box) for gone, box in zip(absent, truth.tolist(), strict=True)]
    their_truth = [theirs(region or (SKIPPED,)) for region in our_truth]
    confidences = np.round(rng.random(frames), 2)
    confidences[0] = 0
    sequence = SimpleNamespace(groundtruth=lambda: their_truth, size=SIZE)
    ours = long_term_run_of(Trajectory(tuple(regions)), confidences, corners_of(our_truth), SIZE)
    return SimpleNamespace(ours=ours, regions=[theirs(region) for region in regions], sequence=sequence)


@pytest.mark.parametrize("lengths", [(30, 20, 25), (150, 90)], ids=["few", "many"])
def test_long_term_scores(lengths):
    rng = np.random.default_rng(8)
    runs = [long_term(rng, frames) for frames in lengths]
    confidences = np.concatenate([run.ours.confidences for run in runs])
    thresholds = determine_thresholds(confidences.tolist(), 100)
    np.testing.assert_array_equal(thresholds_of(confidences), thresholds)
    curves = []
    for run in runs:
        curve = compute_tpr_curves(run.regions, run.ours.confidences, run.sequence, thresholds)
        np.testing.assert_allclose(precision_recall(run.ours, np.array(thresholds)).T, curve, **EXACT)
        curves.append((list(zip(*curve, strict=True)), thresholds))
    mean, f_curve = Grid(1, 1), Grid(1, 1)
    mean[0, 0] = PrecisionRecallCurve().aggregate(None, None, curves)
    f_curve[0, 0] = FScoreCurve().compute(None, [None], None, [mean])[0, 0]
    precision, recall, f_score = PrecisionRecall().compute(None, [None], None, [mean, f_curve])[0, 0]
    scores = score_long_term({str(index): [run.ours] for index, run in enumerate(runs)})
    assert 0 < f_score < 1
    np.testing.assert_allclose((scores.precision, scores.recall, scores.f_score), (precision, recall, f_score), **EXACT)


# --- files


def test_it_reads_our_folders_as_we_do(tmp_path, short_video):
    lines = [polygon_line(*box) for box in short_video.boxes_xywh[:4]]
    folder = write_vot_sequence(tmp_path / "ball", short_video.frames[:4], lines, "", occlusion=[0, 1, 1, 0])
    (ours,) = find_sequences(tmp_path)
    sequence = read_sequence_legacy(str(folder))
    assert (len(sequence), sequence.size) == (len(ours.truth_xywh), ours.frame_size)
    for index, region in enumerate(ours.regions):
        points = [value for point in sequence.groundtruth(index).points() for value in point]
        assert points == pytest.approx(region)
        assert ("occlusion" in sequence.tags(index)) == ours.tags["occlusion"][index]


def test_it_reads_our_results(tmp_path):
    trajectory = Trajectory(((INITIALISED,), (1.5, 2.25, 30.125, 40.0), (0.5, 0.0, 9.0, 0.0, 9.0, 9.0)))
    run = VotRun(trajectory, np.array([0.0, 7.0, 9.0]), np.array([np.nan, 0.75, 0.125]))
    save_vot_run(tmp_path, "ours", "ball", run, LONG_TERM)
    found = TheirTrajectory.read(Results(LocalStorage(str(tmp_path / "ours" / "longterm" / "ball"))), "ball_001")
    assert len(found) == 3
    assert found.region(0).code == TheirTrajectory.INITIALIZATION
    assert [getattr(found.region(1), side) for side in ("x", "y", "width", "height")] == [1.5, 2.25, 30.125, 40]
    assert found.region(2).points() == [(0.5, 0), (9, 0), (9, 9)]
    assert [found.properties(index).get("confidence", 0) for index in range(3)] == [0, 0.75, 0.125]
