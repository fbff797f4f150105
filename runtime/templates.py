"""The template branch: from a box in a frame to the tensors the search graph compares with, and their updates."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from siamtrt.boxes import BoxXywh
from siamtrt.manifest import Manifest
from siamtrt.runtime.crop import CropBuffer, Fill
from siamtrt.runtime.decode import crop_side, whole_side
from siamtrt.runtime.sampling import crop_boxes
from siamtrt.runtime.session import Session
from siamtrt.runtime.spatial_mask import aspect_mask
from siamtrt.runtime.state import TargetState
from siamtrt.tracking import (
    BlendedTemplate,
    DistractorAware,
    Preprocessing,
    SamplingDecoding,
    Strategies,
    TransformUpdate,
)

UPDATED, AVERAGE = "updated_", "average."
Tensors = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Target:
    """What initialisation fixes: the template's tensors, the padding colour, the frame's size."""

    kernels: Tensors
    fill: Fill
    frame_size: tuple[int, int]


class TemplateCutter:
    """Cuts template crops.

    Args:
        crop: how the bundle makes a network input of a frame.
    """

    def __init__(self, crop: Preprocessing) -> None:
        self._crop = crop
        self._buffer = CropBuffer(crop.template_size, channel_order=crop.channel_order)

    def side(self, state: TargetState) -> int:
        """Side in whole frame pixels of the square around a target."""
        return whole_side(crop_side(state, self._crop, self._crop.template_size))

    def cut(self, frame: np.ndarray, state: TargetState, fill: Fill) -> np.ndarray:
        """The (1, 3, T, T) crop around a target; valid until the next call."""
        return self._buffer.cut(frame, state.center_xy, self.side(state), fill, angle_rad=state.angle_rad)


class TemplateBranch:
    """Cuts template crops and runs the template graph.

    Args:
        manifest: of the bundle.
        session: of its template graph.
    """

    def __init__(self, manifest: Manifest, session: Session) -> None:
        self._crop, self._strategies = manifest.preprocessing, manifest.strategies
        self._takes_box = isinstance(manifest.decoding, SamplingDecoding)
        self._session = session
        self._cutter = TemplateCutter(manifest.preprocessing)

    def cut(self, frame: np.ndarray, state: TargetState, fill: Fill) -> np.ndarray:
        """See `TemplateCutter`."""
        return self._cutter.cut(frame, state, fill)

    def run(self, frame: np.ndarray, state: TargetState, fill: Fill) -> dict[str, np.ndarray]:
        """The template's tensors of a target; they belong to the caller."""
        feeds = {self._session.inputs[0].name: self.cut(frame, state, fill), **self._inputs(state)}
        return {name: np.array(value) for name, value in self._session.run(feeds).items()}

    def _inputs(self, state: TargetState) -> dict[str, np.ndarray]:
        mask = self._strategies.spatial_mask
        if mask:
            return {"mask": aspect_mask(state.first_wh or state.size_wh, mask.threshold, mask.side)}
        if self._takes_box:
            box = np.array([(0.0, 0.0, *state.size_wh)], np.float32)
            return {"box": crop_boxes(box, (0.0, 0.0), self._cutter.side(state), self._crop.template_size)}
        return {}


class TemplatePolicy(Protocol):
    """What becomes of the template after a frame. Pure: all it remembers is in the state.

    An update that is not finite is dropped: with it every later search would be invalid.
    """

    def next(self, frame: np.ndarray, state: TargetState, target: Target) -> TargetState:
        """`state` with the memory that the next frame is searched with."""
        ...


class FixedTemplate:
    """The template of the first frame, for ever."""

    def next(self, frame: np.ndarray, state: TargetState, target: Target) -> TargetState:
        """See `TemplatePolicy`."""
        return state


class Blended:
    """Part of the first frame's tensors and the rest a moving average of later ones (Siam-BM, sec. 3.4)."""

    def __init__(self, policy: BlendedTemplate, branch: TemplateBranch) -> None:
        self._policy, self._branch = policy, branch

    def next(self, frame: np.ndarray, state: TargetState, target: Target) -> TargetState:
        """See `TemplatePolicy`."""
        share, rate = self._policy.first_share, self._policy.rate
        memory = {}
        for name, latest in self._branch.run(frame, state, target.fill).items():
            first = target.kernels[name]
            average = (1 - rate) * state.memory.get(AVERAGE + name, first) + rate * latest
            memory[AVERAGE + name] = average
            memory[name] = share * first + (1 - share) * average
        return _remembering(state, memory)


class Transformed:
    """The graph `update` learns transformations from crops at the target (DSiam, sec. 3.2)."""

    def __init__(self, manifest: Manifest, branch: TemplateBranch, session: Session) -> None:
        self._crop, self._branch, self._session = manifest.preprocessing, branch, session
        self._buffer = CropBuffer(self._crop.search_size, channel_order=self._crop.channel_order)

    def next(self, frame: np.ndarray, state: TargetState, target: Target) -> TargetState:
        """See `TemplatePolicy`."""
        side = whole_side(crop_side(state, self._crop, self._crop.search_size))
        crops = {
            "z": self._branch.cut(frame, state, target.fill),
            "x": self._buffer.cut(frame, state.center_xy, side, target.fill, angle_rad=state.angle_rad),
        }
        known = {**target.kernels, **state.memory, **crops}
        updated = self._session.run({tensor.name: known[tensor.name] for tensor in self._session.inputs})
        memory = {name.removeprefix(UPDATED): np.array(value) for name, value in updated.items()}
        return _remembering(state, memory)


class DistractorTemplates:
    """The mean kernel of this frame's distractors, each cut and embedded as a template."""

    def __init__(self, policy: DistractorAware, branch: TemplateBranch) -> None:
        self._policy, self._branch = policy, branch

    def next(self, frame: np.ndarray, state: TargetState, target: Target) -> TargetState:
        """See `TemplatePolicy`."""
        kernels = [self._kernel(frame, box, target.fill) for box in state.distractors]
        memory = {self._policy.kernel: np.mean(kernels, axis=0)} if kernels else {}
        return _remembering(state, memory)

    def _kernel(self, frame: np.ndarray, box_xywh: BoxXywh, fill: Fill) -> np.ndarray:
        x, y, width, height = box_xywh
        state = TargetState((x + width / 2, y + height / 2), (width, height))
        return self._branch.run(frame, state, fill)[self._policy.similarity]


def _remembering(state: TargetState, memory: Tensors) -> TargetState:
    """`state` with a new memory, or with the last good one."""
    finite = all(np.isfinite(value).all() for value in memory.values())
    return dataclasses.replace(state, memory=memory) if finite else state


def template_policy(manifest: Manifest, branch: TemplateBranch, sessions: Mapping[str, Session]) -> TemplatePolicy:
    """The bundle's policy, ready to run."""
    strategies: Strategies = manifest.strategies
    if isinstance(strategies.template, TransformUpdate):
        return Transformed(manifest, branch, sessions["update"])
    if isinstance(strategies.template, BlendedTemplate):
        return Blended(strategies.template, branch)
    if isinstance(strategies.template, DistractorAware):
        return DistractorTemplates(strategies.template, branch)
    return FixedTemplate()
