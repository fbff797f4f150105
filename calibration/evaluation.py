"""What a change of precision does to single steps of the tracker: the same pairs through FP32 and through a variant."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
from onnx import ModelProto

from siamtrt.boxes import iou
from siamtrt.calibration.pairs import Pair
from siamtrt.closing import Closing
from siamtrt.manifest import Manifest
from siamtrt.runtime.decode import crop_side
from siamtrt.runtime.ort_session import OrtSession, session_options
from siamtrt.runtime.search import ORDINARY, search_decoders
from siamtrt.runtime.session import Session
from siamtrt.runtime.state import TargetState
from siamtrt.tracking import Proposals, SamplingDecoding

TEMPLATE = "template"
GRAPHS = (TEMPLATE, ORDINARY)
Models = Mapping[str, ModelProto]
Tensors = dict[str, np.ndarray]


@dataclass(frozen=True)
class Damage:
    """Means over pairs of how far a variant is from FP32 in one step of the tracker.

    Attributes:
        correlation: Pearson's, of the response maps before decoding, -1..1.
        displacement_px: distance between the peaks that were chosen, in pixels of the search crop; of a tracker that
            enlarges its response maps, between the boxes' centres.
        iou: of the two boxes, 0..1; exactly 1 where they are equal.
    """

    correlation: float
    displacement_px: float
    iou: float

    @property
    def drop(self) -> float:
        """1 - IoU."""
        return 1.0 - self.iou


UNCHANGED = Damage(1.0, 0.0, 1.0)


@dataclass(frozen=True)
class Step:
    """One pair's result: the search graph's outputs and the state they decode to."""

    kernels: Tensors
    maps: Tensors
    state: TargetState


class Evaluator(Closing):
    """Steps of the tracker on pairs, in FP32 once and in any number of variants. A context manager, or call `close`.

    Args:
        manifest: of the bundle.
        models: its FP32 graphs "template" and "search".
        pairs: to step on; kept in memory.
        threads: CPU threads of a run; see `OrtSession`.
    """

    def __init__(self, manifest: Manifest, models: Models, pairs: Iterable[Pair], threads: int | None = None) -> None:
        self.manifest, self._models, self._threads = manifest, models, threads
        self.pairs = list(pairs)
        self._decoder = search_decoders(manifest)[ORDINARY]
        assert not isinstance(manifest.decoding, SamplingDecoding)  # takes more than crops: it has no pairs
        self._stride = manifest.decoding.stride
        self._template, self._search = (self.session(graph, models[graph]) for graph in GRAPHS)
        self.exact = [self._exact(pair) for pair in self.pairs]

    def session(self, graph: str, model: ModelProto) -> OrtSession:
        """A model in place of one of the graphs."""
        return OrtSession(model.SerializeToString(), self.manifest.graphs[graph], self._threads, graph)

    def raw_session(self, model: ModelProto) -> ort.InferenceSession:
        """A model that may have other inputs and outputs; INT8 is simulated as in `OrtSession`."""
        data = model.SerializeToString()
        options = session_options(len(data), self._threads)
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def cases(self, graph: str) -> Iterator[tuple[Tensors, Tensors]]:
        """(inputs, FP32 outputs) of a graph for every pair."""
        crop, *others = (tensor.name for tensor in self.manifest.graphs[graph].inputs)
        for pair, exact in zip(self.pairs, self.exact, strict=True):
            if graph == TEMPLATE:
                yield {crop: pair.template}, exact.kernels
            else:
                yield {crop: pair.search, **{name: exact.kernels[name] for name in others}}, exact.maps

    def _exact(self, pair: Pair) -> Step:
        kernels = self.kernels(self._template, pair)
        return self.step(self._search, pair, kernels)

    def kernels(self, template: Session, pair: Pair) -> Tensors:
        """The template's tensors of a pair."""
        return {name: value.copy() for name, value in template.run({template.inputs[0].name: pair.template}).items()}

    def step(self, search: Session, pair: Pair, kernels: Tensors) -> Step:
        """One update, from the pair's state."""
        crop, *others = (tensor.name for tensor in search.inputs)
        maps = search.run({crop: pair.search, **{name: kernels[name] for name in others}})
        return Step(kernels, maps, self._decoder.decode(pair.state, maps, pair.frame_size))

    def steps(self, changed: Models) -> Iterator[Step]:
        """Every pair's step with some graphs replaced, the others FP32."""
        with ExitStack() as stack:
            opened = {graph: stack.enter_context(self.session(graph, model)) for graph, model in changed.items()}
            search = opened.get(ORDINARY, self._search)
            for pair, exact in zip(self.pairs, self.exact, strict=True):
                kernels = self.kernels(opened[TEMPLATE], pair) if TEMPLATE in opened else exact.kernels
                yield self.step(search, pair, kernels)

    def damage(self, changed: Models) -> Damage:
        """How far the tracker is from FP32 with some graphs replaced; NaN in a map counts as a lost target."""
        both = zip(self.pairs, self.exact, self.steps(changed), strict=True)
        return Damage(*np.mean([self._compared(*row) for row in both], axis=0).tolist())

    def _compared(self, pair: Pair, exact: Step, found: Step) -> tuple[float, float, float]:
        if found.state.status == "invalid" or not all(np.isfinite(value).all() for value in found.maps.values()):
            return 0.0, float(self.manifest.preprocessing.search_size), 0.0
        maps = (self._response(step.maps) for step in (exact, found))
        return _correlation(*maps), self._displacement_px(pair, exact.state, found.state), _overlap(exact, found)

    def _displacement_px(self, pair: Pair, exact: TargetState, found: TargetState) -> float:
        if isinstance(self.manifest.decoding, Proposals):
            return math.dist(exact.position_rc, found.position_rc) * self._stride
        crop = self.manifest.preprocessing
        zoom = crop.search_size / crop_side(pair.state, crop, crop.search_size)
        return math.dist(exact.center_xy, found.center_xy) * zoom

    def _response(self, maps: Tensors) -> np.ndarray:
        """The scores that choose the peak, before any window: target's logit less background's, or the response."""
        first = next(iter(maps.values())).astype(np.float64)
        if isinstance(self.manifest.decoding, Proposals):
            background, target = np.split(maps["cls"].astype(np.float64), 2, axis=1)
            return target - background
        return first

    def close(self) -> None:
        """Free the sessions."""
        self._template.close()
        self._search.close()


def _overlap(exact: Step, found: Step) -> float:
    a, b = exact.state.box_xywh, found.state.box_xywh
    # From corners and sides, a box's IoU with itself is 1 - 1e-16 for some: beyond a budget of 0.
    return 1.0 if a == b else float(iou(np.array(a), np.array(b)).clip(0.0, 1.0))


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.ravel() - a.mean(), b.ravel() - b.mean()
    scale = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / scale if scale else float(np.array_equal(a, b))
