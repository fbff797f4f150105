"""VOT's metrics of supervised runs: accuracy, robustness, expected average overlap.

Sources: Kristan et al., "A novel performance evaluation methodology for single-target trackers", TPAMI 2016, section 4
(accuracy, robustness, burn-in), and Kristan et al., "The Visual Object Tracking VOT2015 challenge results", ICCVW 2015,
section 3 (expected average overlap). What they leave open is decided as in the toolkits that published scores come
from, the VOT toolkit in MATLAB (`estimate_accuracy`, `estimate_expected_overlap`) and pysot's (`AccuracyRobustness` and
`EAOBenchmark`).

A run is cut into fragments where the tracker was initialised. After a failure a fragment goes on as long as wanted with
overlap 0; a fragment that the end of the sequence cuts off says nothing of longer sequences. The toolkits take a
failure too late for another initialisation as cut off, too: it costs the overlaps of its last frames and no more. The
later Python `vot-toolkit` goes on with 0 there also, which on VOT2018 gives up to 0.004 less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from siamtrt.benchmarks.overlap import overlaps
from siamtrt.benchmarks.regions import FAILED, INITIALISED, Trajectory, corners_of

BURN_IN = 10  # frames from an initialisation on that do not count for accuracy: they favour the tracker
# Shortest and longest sequence that the expected overlap is averaged over. The challenges chose them so that they hold
# half of the probability of the lengths of a year's sequences; 2015 and 2017 to 2019 as the stacks of `vot-toolkit`
# have them, 2016 as there and in pysot.
INTERVALS = {2015: (108, 371), 2016: (108, 371), 2017: (100, 356), 2018: (100, 356), 2019: (46, 291)}


@dataclass(frozen=True)
class Run:
    """One supervised run over one sequence of F frames.

    Attributes:
        overlaps: (F,) in [0, 1]; NaN where the tracker gave no region.
        codes: (F,) as `Trajectory.codes`.
        starts: (S,) as `Trajectory.starts`.
    """

    overlaps: np.ndarray
    codes: np.ndarray
    starts: np.ndarray

    @property
    def failures(self) -> int:
        """How often the target was lost."""
        return int((self.codes == FAILED).sum())


@dataclass(frozen=True)
class VotScores:
    """A tracker's scores over all sequences.

    Attributes:
        eao: expected average overlap, in [0, 1]; higher is better.
        accuracy: mean overlap while tracking, in [0, 1]; higher is better.
        robustness: failures per 100 frames; lower is better.
        lost_number: failures over all sequences, the mean over repetitions.
        curve: (N,) expected overlap over sequences of 1 to N frames.
    """

    eao: float
    accuracy: float
    robustness: float
    lost_number: float
    curve: np.ndarray


def run_of(trajectory: Trajectory, truth: np.ndarray, frame_size: tuple[int, int]) -> Run:
    """Compare a trajectory with (F, V, 2) corners of the ground truth in frames of `(width, height)` pixels."""
    codes = trajectory.codes
    return Run(overlaps(corners_of(trajectory.regions), truth, frame_size), codes, trajectory.starts)


def score_runs(runs: Mapping[str, Sequence[Run]], interval: tuple[int, int]) -> VotScores:
    """Every score of a tracker.

    Args:
        runs: for each sequence its repetitions, at least one, each of the sequence's length.
        interval: shortest and longest sequence of the expected average overlap, in frames.
    """
    curve = expected_overlap_curve(runs)
    lost = lost_number(runs)
    frames = sum(len(repeated[0].codes) for repeated in runs.values())
    return VotScores(average_on(curve, interval), accuracy(runs), 100 * lost / frames, lost, curve)


def accuracy(runs: Mapping[str, Sequence[Run]], burn_in: int = BURN_IN) -> float:
    """Mean overlap of all frames of all sequences, each frame's being its mean over repetitions.

    Frames without a region do not count, nor do the first `burn_in` from each initialisation. NaN where none counts.
    """
    means = [_mean_known(np.stack([_burnt_in(run, burn_in) for run in repeated])) for repeated in runs.values()]
    return float(_mean_known(np.concatenate(means)))


def lost_number(runs: Mapping[str, Sequence[Run]]) -> float:
    """Failures over all sequences, a sequence's being the mean over its repetitions."""
    return float(sum(np.mean([run.failures for run in repeated]) for repeated in runs.values()))


def expected_overlap_curve(runs: Mapping[str, Sequence[Run]]) -> np.ndarray:
    """Expected overlap of a tracker that is initialised once, over sequences of 1, 2, ..., N frames.

    For N frames it is the mean over the fragments that say something of N frames, of their mean overlap in frames 2 to
    N; a fragment counts by one over its sequence's repetitions. N = 1, the initialisation itself, is 1.

    Returns:
        (N,) in [0, 1], N the frames of the longest run.
    """
    longest = max(len(run.codes) for repeated in runs.values() for run in repeated)
    total, weight = np.zeros(longest - 1), np.zeros(longest - 1)
    lengths = np.arange(1, longest)
    for repeated in runs.values():
        for run in repeated:
            for fragment in fragments(run, longest):
                known = np.isfinite(fragment[1:])
                means = np.cumsum(np.where(known, fragment[1:], 0)) / lengths
                total += means * known / len(repeated)
                weight += known / len(repeated)
    return np.concatenate([[1.0], total / weight])  # the longest run's first fragment is known at every length


def fragments(run: Run, length: int) -> np.ndarray:
    """(S, length) overlaps from each start of a run: 0 without a region and after a failure, NaN past the end."""
    table = np.full((len(run.starts), length), np.nan)
    ends = [*run.starts[1:].tolist(), len(run.codes)]
    for row, start, end in zip(table, run.starts.tolist(), ends, strict=True):
        row[: end - start] = np.nan_to_num(run.overlaps[start:end])
        if end < len(run.codes):
            row[end - start :] = 0
    return table


def average_on(curve: np.ndarray, interval: tuple[int, int]) -> float:
    """Mean of a curve of `expected_overlap_curve` over sequences of `interval` frames, both ends included.

    Lengths beyond the curve do not count; NaN where none is left.
    """
    low, high = interval
    chosen = curve[low - 1 : high]
    return float(chosen.mean()) if chosen.size else float("nan")


def _burnt_in(run: Run, burn_in: int) -> np.ndarray:
    counted = run.overlaps.copy()
    for start in np.flatnonzero(run.codes == INITIALISED):
        counted[start : start + burn_in] = np.nan
    return counted


def _mean_known(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis of what is not NaN; NaN where all is."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    mean = np.where(known, values, 0).sum(axis=0) / np.maximum(count, 1)
    return np.where(count > 0, mean, np.nan)
