"""What the service counts and measures, for Prometheus."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import get_args

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, Summary, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from siamtrt.runtime.state import Status
from siamtrt.runtime.tracker import StageTimes
from siamtrt.service.faults import Faults
from siamtrt.service.loop import TrackingLoop
from siamtrt.service.updates import Listener, Update

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LATENCY_S = (0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.1, 0.2, 0.5, 1.0, 5.0)  # at 30 a second a frame lasts 0.033
FRESH_S = 0.2
STAGES = tuple(name for name in StageTimes._fields if name != "total_ms")
CONDITIONS = ("idle", *get_args(Status))


class Metrics(Listener):
    """A registry of its own, fed by the tracking loop; a listener of it.

    Args:
        loop: asked for its counts when they are read.
        faults: likewise.
    """

    name = "metrics"

    def __init__(self, loop: TrackingLoop, faults: Faults) -> None:
        self._registry = CollectorRegistry()
        self._updates = Counter("siamtrt_updates", "Frames dealt with, by what they came to.", ["status"],
                                registry=self._registry)  # fmt: skip
        self._latency = Histogram("siamtrt_latency_seconds", "From a frame's capture to its result.",
                                  buckets=LATENCY_S, registry=self._registry)  # fmt: skip
        stages = Summary("siamtrt_stage_seconds", "Time an update spent in each stage.", ["stage"],
                         registry=self._registry)  # fmt: skip
        self._stages = {stage: stages.labels(stage.removesuffix("_ms")) for stage in STAGES}
        for condition in CONDITIONS:
            self._updates.labels(condition)
        self._registry.register(_Present(loop, faults))
        ProcessCollector(registry=self._registry)
        self._text, self._text_s = b"", -math.inf

    def take(self, update: Update, frame: np.ndarray) -> None:
        """See `Listener`."""
        self._updates.labels(update.status).inc()
        self._latency.observe(update.latency_ms / 1e3)
        if update.times is not None:
            for stage, summary in self._stages.items():
                summary.observe(getattr(update.times, stage) / 1e3)

    def text(self) -> bytes:
        """All of it in Prometheus' text format, at most `FRESH_S` old: asking 1000 times a second costs little."""
        now = time.monotonic()
        if now - self._text_s > FRESH_S:
            self._text, self._text_s = generate_latest(self._registry), now
        return self._text


class _Present(Collector):
    """What the loop and the faults say when they are asked."""

    def __init__(self, loop: TrackingLoop, faults: Faults) -> None:
        self._loop, self._faults = loop, faults

    def collect(self) -> Iterator[Metric]:
        now = self._loop.snapshot()
        feed = {
            "captured": ("siamtrt_frames_captured", "Frames the source gave."),
            "dropped": ("siamtrt_frames_dropped", "Frames that were never looked at."),
            "reconnects": ("siamtrt_reconnects", "Times a lost stream came back."),
            "gap_seconds": ("siamtrt_gap_seconds", "Time the stream was away."),
        }
        for key, (name, text) in feed.items():
            yield CounterMetricFamily(name, text, value=now.feed_counts[key])
        faults = CounterMetricFamily("siamtrt_faults", "What went wrong while the service went on.", labels=["kind"])
        for kind, count in self._faults.counts().items():
            faults.add_metric([kind], count)
        yield faults
        status = GaugeMetricFamily("siamtrt_target_status", "1 for what the target is.", labels=["status"])
        for condition in CONDITIONS:
            status.add_metric([condition], float(now.last is not None and now.last.status == condition))
        yield status
        if now.last is not None and now.last.score is not None:
            yield GaugeMetricFamily("siamtrt_target_score", "Confidence, 0 to 1.", value=now.last.score)
        yield GaugeMetricFamily("siamtrt_last_frame_age_seconds", "Since the last frame was dealt with.",
                                value=now.silent_s)  # fmt: skip
        yield InfoMetricFamily("siamtrt_tracker", "What tracks what.",
                               {"model": now.model, "backend": now.backend, "source": now.source})  # fmt: skip
