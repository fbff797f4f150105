"""One file of every kind that `siamtrt report` reads, written by what writes them where that needs no network."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from siamtrt.benchmarks import harness, score_results
from siamtrt.benchmarks.compare import Comparison, Contender, Track
from siamtrt.benchmarks.race import ContenderSummary, StageSummary

ENVIRONMENT = {
    "cpu": "some CPU", "cores": 4, "system": "Linux 6 aarch64", "gpu": None, "python": "3.11.7",
    "packages": {"siamtrt": "0.1.0", "numpy": "2.0.0"},
}  # fmt: skip
BOXES = {"ball": [[10 + i, 20, 30, 40] for i in range(8)], "car": [[50, 60 - i, 20, 30] for i in range(5)]}
OFFSETS = {"steady": 1, "lossy": 9}  # pixels of each tracker's boxes from the truth, but in the first frame
GPU: dict[str, Any] = {
    "environment": {**ENVIRONMENT, "commit": "abc", "device": {
        "name": "test GPU", "compute_capability": "8.7", "multiprocessors": 8, "memory_bytes": 1, "integrated": True,
        "driver": "550", "cuda_driver": "12.9", "cuda": "12.9"}},
    "checks": [{"kernel": "crop", "error": 0.0, "limit": 1.0}],
    "sanitizer": [{"tool": "memcheck", "version": "2025", "exit_code": 0, "errors": 0}],
    "xcorr": [{"dtype": "float16", "targets": 1, "ours_ms": 0.1, "grouped_ms": 0.3, "times_faster": 3.0,
               "roofline_share": 0.5}],
    "kernels": [{"kernel": "crop", "dtype": "float16", "targets": 1, "ms": 0.01},
                {"kernel": "decode", "dtype": "float16", "targets": 1, "ms": 0.02}],
    "updates": [{"tracker": "some_tracker", "dtype": "float16", "slots": 1, "device_ms": 2.0, "eager_ms": 8.0,
                 "eager_stages": {}, "paper": None, "bytes_up": 5, "bytes_down": 48}],
}  # fmt: skip
PREDICTION = {
    "model": "nano", "precision": "fp16", "targets": 1, "figures": [],
    "predictions": [{"device": f"jetson-{name}", "precision": "fp16", "gpu_ms": 1.0, "host_ms": 2.0, "fps": fps,
                     "fps_range": [fps / 2, fps * 2], "bound_by": {"memory": 0.7, "compute": 0.3}, "kernels": 9}
                    for name, fps in (("small", 40), ("large", 120.5))],
}  # fmt: skip


def bench(model: str = "nano", scale: float = 1.0, **changes: Any) -> harness.BenchReport:
    """A report whose network takes 4 ms at the median times `scale`."""
    stages = {"crop": 1.0, "network": 4.0, "decode": 0.5, "whole update": 5.5}
    summary = {name: StageSummary(ms * scale, 1.5 * ms * scale, 2 * ms * scale) for name, ms in stages.items()}
    paper = {"fps": 100.0, "hardware": "NVIDIA Titan Xp", "source": "some paper, sec. 1"}
    report = harness.BenchReport(
        model=model, bundle_sha256="0" * 64, backend="onnxruntime", source="clip.mp4", frame_size=(320, 240), warm_up=5,
        updates=100, fps=1e3 / (5.5 * scale), stages=summary, paper=paper, environment=ENVIRONMENT,
        raw_ms={"total_ms": [5.5]},
    )  # fmt: skip
    return replace(report, **changes)


def beside(**medians: float) -> tuple[ContenderSummary, ...]:
    """What `bench --compare` adds: medians in milliseconds by name, ours first."""
    ours = next(iter(medians.values()))
    return tuple(
        ContenderSummary(name, f"software of {name}", 1, StageSummary(ms, 2 * ms, 3 * ms), ms / ours, 0.9, None, 0, [])
        for name, ms in medians.items()
    )


def comparison(model: str = "nano") -> Comparison:
    """FP32, FP16 and INT8, which loses too much."""
    def contender(name: str, auc: float, size: int) -> Contender:
        success = [1 - index / 20 * (1.1 - auc) for index in range(21)]
        tracks = tuple(Track(place, [[0.0] * 4], success, auc, 0.9, 0.9, 5.0) for place in ("ball", "car"))
        share = 0.9 if name == "int8" else 0.0
        return Contender(name, "onnxruntime", auc, 0.9, 0.9, 0.7 - auc, share, size, {}, 5.0, tracks)

    rows = contender("fp32", 0.7, 4_000_000), contender("fp16", 0.705, 2_000_000), contender("int8", 0.6, 1_000_000)
    skipped, command = {"engine:fp16": "no GPU"}, "siamtrt compare nano --source clips"
    return Comparison(model, "0" * 64, True, 0.02, rows, skipped, dict(ENVIRONMENT), command)


def write_json(path: Path, content: Any) -> Path:
    """A JSON file."""
    path.write_text(json.dumps(content))
    return path


def write_evaluation(folder: Path, **renamed: str) -> Path:
    """Boxes of two trackers below `folder/results`, their truth, and what `siamtrt eval --results` keeps of them.

    Args:
        renamed: other names for trackers.
    """
    for tracker, offset in OFFSETS.items():
        place = folder / "results" / renamed.get(tracker, tracker)
        place.mkdir(parents=True)
        for name, boxes in BOXES.items():
            moved = [boxes[0], *([x + offset, y, w, h] for x, y, w, h in boxes[1:])]
            (place / f"{name}.txt").write_text("".join(f"{x},{y},{w},{h}\n" for x, y, w, h in moved))
    truth = write_json(folder / "truth.json", {name: {"gt_rect": boxes} for name, boxes in BOXES.items()})
    evaluation = score_results.score_results(folder / "results", truth)
    return score_results.save_report(evaluation, folder / "scores")[0]


def write_all(folder: Path) -> Path:
    """One of every kind below `folder/all`, two benchmarks, and files of other kinds beside them."""
    place = folder / "all"
    (place / "deeper").mkdir(parents=True)
    scores = json.loads(write_evaluation(folder).read_text())
    for row in scores["trackers"]:
        row["update_ms"] = dict.fromkeys(BOXES, 5.0)  # as where trackers are run, not only scored
    write_json(place / "scores.json", scores)
    for name, report in {"fast": bench(), "slow": bench("heavy", 8.0)}.items():
        harness.save_report(report, place / name)
    write_json(place / "compare.json", asdict(comparison()))
    write_json(place / "deeper" / "gpu.json", GPU)
    write_json(place / "deeper" / "prediction.json", PREDICTION)
    write_json(place / "run.json", {"bundle_sha256": "0"})
    write_json(place / "list.json", [1, 2])
    return place
