"""How a tracker is run over a dataset, and where its results go."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from siamtrt.errors import SiamtrtError
from siamtrt.runtime.layout_vot import LAYOUT as VOT_LAYOUT
from siamtrt.runtime.sequence import Sequence

ONE_PASS, SUPERVISED, REAL_TIME, LONG_TERM = "one-pass", "supervised", "realtime", "long-term"
# Folder of a tracker's results, `<tracker>/<experiment>/<sequence>/`, as VOT's toolkits and pysot's name it.
EXPERIMENTS = {SUPERVISED: "baseline", REAL_TIME: "realtime", LONG_TERM: "longterm"}
DEFAULT_FPS = 20.0


@dataclass(frozen=True)
class Protocol:
    """One way of running a tracker.

    Attributes:
        name: "one-pass": given the target in the first frame. "supervised": given it again after a loss, see
            `siamtrt.benchmarks.supervised`. "realtime": the same while frames do not wait. "long-term": one pass with
            confidences.
        fps: rate at which frames arrive; real-time only.
        latency_ms: what every update takes; None for what it takes here. Real-time only.

    Raises:
        SiamtrtError: a rate or latency that is not finite and positive.
    """

    name: str = ONE_PASS
    fps: float = DEFAULT_FPS
    latency_ms: float | None = None

    def __post_init__(self) -> None:
        for value in (self.fps, 1.0 if self.latency_ms is None else self.latency_ms):
            if not (math.isfinite(value) and value > 0):
                raise SiamtrtError(
                    "bad real-time setting", received=value, expected="a positive rate and latency",
                    fix="give --fps in frames a second and --latency-ms in milliseconds",
                )  # fmt: skip

    @property
    def experiment(self) -> str:
        """Folder of the results in the tracker's; empty where they lie in that."""
        return EXPERIMENTS.get(self.name, "")

    @property
    def options(self) -> dict[str, Any]:
        """What changes the results, beside the tracker."""
        if self.name == ONE_PASS:
            return {}
        real_time = {"fps": self.fps, "latency_ms": self.latency_ms} if self.name == REAL_TIME else {}
        return {"protocol": self.name, **real_time}


def implied_protocol(sequences: Iterable[Sequence]) -> str:
    """The protocol of a dataset: VOT's long-term sequences are those of which the target is absent at times."""
    chosen = list(sequences)
    if not all(sequence.layout == VOT_LAYOUT for sequence in chosen):
        return ONE_PASS
    return LONG_TERM if any(np.isnan(sequence.truth_xywh).any() for sequence in chosen) else SUPERVISED
