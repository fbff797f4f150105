"""A tracker's precisions side by side on sequences with ground truth: the measurement behind `siamtrt compare`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Several
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from tqdm import tqdm

from siamtrt.benchmarks.accuracy import Score, score_sequence
from siamtrt.benchmarks.contenders import CONTRASTS, Opened, chosen_variants, opened_variant, runnable_variants
from siamtrt.benchmarks.environment import environment
from siamtrt.benchmarks.metrics import success_curve
from siamtrt.boxes import iou
from siamtrt.calibration.record import CALIBRATION_NAME, load_calibration
from siamtrt.calibration.variants import CALIBRATED
from siamtrt.errors import SourceError
from siamtrt.manifest import MANIFEST_NAME, load_manifest, sha256_of, verified_file
from siamtrt.precision import DEFAULT_AUC_DROP
from siamtrt.runtime.sequences import Sequence
from siamtrt.runtime.tracker import Tracker

MEANS = ("success_auc", "precision", "iou_fp32")


@dataclass(frozen=True)
class Track:
    """One variant on one sequence.

    Attributes:
        sequence: its name.
        boxes_xywh: a box a frame in pixels, to 1/1000; the first is the one given.
        success: share of frames whose IoU with the truth exceeds each of `SUCCESS_THRESHOLDS`.
        success_auc, precision: see `siamtrt.benchmarks.metrics`.
        iou_fp32: mean IoU with FP32's boxes, over all frames but the first.
        update_ms: median of an update.
    """

    sequence: str
    boxes_xywh: list[list[float]]
    success: list[float]
    success_auc: float
    precision: float
    iou_fp32: float
    update_ms: float


@dataclass(frozen=True)
class Contender:
    """One variant: means over sequences, sizes, speed.

    Attributes:
        name: of `VARIANTS` or `ENGINES`.
        backend: what ran it.
        success_auc, precision, iou_fp32: means of the sequences'.
        auc_drop: below FP32's success AUC; negative where it is better.
        int8_share: of the search graph's multiply-accumulates in INT8, 0..1; None for an INT8 engine, whose plan is
            not recorded.
        graph_bytes: of the ONNX graphs together; None for an engine.
        engine_bytes: of the engines of all graphs by flavour, version and architecture; of what ran, for an engine.
        update_ms: median over all updates of all sequences.
        tracks: a sequence each.
    """

    name: str
    backend: str
    success_auc: float
    precision: float
    iou_fp32: float
    auc_drop: float
    int8_share: float | None
    graph_bytes: int | None
    engine_bytes: dict[str, int]
    update_ms: float
    tracks: tuple[Track, ...]


@dataclass(frozen=True)
class Comparison:
    """All variants, FP32 first. `skipped` says why a variant could not run here."""

    model: str
    bundle_sha256: str
    half: bool
    max_auc_drop: float
    contenders: tuple[Contender, ...]
    skipped: dict[str, str]
    environment: dict[str, object]
    command: str

    @property
    def over_budget(self) -> tuple[Contender, ...]:
        """Those that lose more than `max_auc_drop`; the contrast does not count."""
        return tuple(row for row in self.contenders if row.auc_drop > self.max_auc_drop and row.name not in CONTRASTS)


def compare(
    bundle: Path | str, sequences: Several[Sequence], variants: Iterable[str] | None = None, *, half: bool = True,
    max_auc_drop: float = DEFAULT_AUC_DROP, threads: int | None = None, progress: bool = False, command: str = "",
) -> Comparison:  # fmt: skip
    """Track every sequence once with every variant and compare with FP32's tracks and with the ground truth.

    ONNX variants run on ONNX Runtime, INT8 and FP16 simulated: with the roundings of the graph, in FP32.

    Args:
        bundle: directory written by `siamtrt export`.
        sequences: with ground truth.
        variants: of `VARIANTS` and `ENGINES`; FP32 runs in any case. By default fp32, fp16, with a calibration int8
            and mixed, and the engines the bundle has.
        half: what is not INT8 in an INT8 variant is FP16, as engines have it; else FP32.
        max_auc_drop: see `Comparison.over_budget`.
        threads: CPU threads of a run; see `open_session`.
        progress: show a bar on stderr.
        command: what reproduces it, for the report.

    Raises:
        BundleError: the bundle is incomplete or edited.
        CalibrationError: a variant that needs a calibration without one, or one of other graphs.
        SourceError: a sequence with nothing but its first box, two of one name, or one that cannot be read.
        SiamtrtError: no such variant; none of them can run here; a bundle for several targets.
    """
    root = Path(bundle)
    manifest = load_manifest(root)
    _require_usable(sequences)
    has_calibration = (root / CALIBRATION_NAME).exists()
    names, skipped = runnable_variants(root, manifest, chosen_variants(variants, manifest, has_calibration))
    needs = has_calibration or not set(CALIBRATED).isdisjoint(names)
    calibration = load_calibration(root, manifest) if needs else None
    models = {graph: onnx.load(verified_file(root, spec.file, spec.sha256)) for graph, spec in manifest.graphs.items()}
    contenders: list[Contender] = []
    reference: list[np.ndarray] = []
    with tqdm(total=len(names) * len(sequences), unit="sequence", disable=None if progress else True) as bar:
        for name in names:
            with opened_variant(name, root, manifest, models, calibration, half, threads) as opened:
                tracker = Tracker(manifest, opened.sessions)
                scores = list(_scores(tracker, sequences, name, bar))
                reference = reference or [score.boxes_xywh for score in scores]
                exact = contenders[0].success_auc if contenders else None
                contenders.append(_contender(name, tracker.backend, opened, scores, reference, sequences, exact))
    return Comparison(
        manifest.model, sha256_of(root / MANIFEST_NAME), half, max_auc_drop, tuple(contenders), skipped,
        environment(), command,
    )  # fmt: skip


def _require_usable(sequences: Several[Sequence]) -> None:
    unlabelled = [sequence.name for sequence in sequences if sequence.init_only]
    if unlabelled or not sequences:
        raise SourceError(
            "nothing to measure accuracy with", received=f"a box in the first frame alone of {', '.join(unlabelled)}"
            if unlabelled else "no sequences",
            expected="sequences with a box in every frame", fix="leave out, or label, sequences without ground truth",
        )  # fmt: skip
    names = [sequence.name for sequence in sequences]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SourceError(
            "sequences of one name", received=", ".join(twice), expected="a name of its own for each",
            fix="rename one, or compare them apart",
        )  # fmt: skip


def _scores(tracker: Tracker, sequences: Several[Sequence], name: str, bar: tqdm[None]) -> Iterator[Score]:
    for sequence in sequences:
        bar.set_description(f"{name} {sequence.name}")
        yield score_sequence(tracker, sequence)
        bar.update()


def _contender(
    name: str, backend: str, opened: Opened, scores: list[Score], reference: list[np.ndarray],
    sequences: Several[Sequence], exact: float | None,
) -> Contender:  # fmt: skip
    tracks = tuple(_track(*row) for row in zip(scores, reference, sequences, strict=True))
    auc, near, same = (float(np.mean([getattr(track, of) for track in tracks])) for of in MEANS)
    return Contender(
        name=name, backend=backend, success_auc=auc, precision=near, iou_fp32=same,
        auc_drop=0.0 if exact is None else exact - auc, int8_share=opened.int8_share, graph_bytes=opened.graph_bytes,
        engine_bytes=opened.engine_bytes,
        update_ms=float(np.median(np.concatenate([score.update_ms for score in scores]))), tracks=tracks,
    )  # fmt: skip


def _track(score: Score, reference_xywh: np.ndarray, sequence: Sequence) -> Track:
    return Track(
        sequence=score.name, boxes_xywh=score.boxes_xywh.round(3).tolist(),
        success=success_curve(score.boxes_xywh, sequence.truth_xywh).tolist(), success_auc=score.success_auc,
        precision=score.precision, iou_fp32=float(iou(score.boxes_xywh, reference_xywh)[1:].mean()),
        update_ms=float(np.median(score.update_ms)),
    )  # fmt: skip
