"""The graphs of a bundle fit each other, its crops and its decoding, so that a tracker of them can run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Protocol

from siamtrt.tracking import (
    BlendedTemplate,
    Constants,
    Decoding,
    DistractorAware,
    LongTermSearch,
    LossDetection,
    MaskDecoding,
    Preprocessing,
    Proposals,
    ResponseDecoding,
    ResponseTracking,
    SamplingDecoding,
    SamplingTracking,
    Strategies,
    Tracking,
    TransformUpdate,
    numbers_of,
    require_numbers,
    search_batch,
    wide_graph,
)

Shape = tuple[int, ...]
CONSTANTS: dict[str, type[Constants]] = {
    "anchor": Tracking, "point": Tracking, "response": ResponseTracking, "sampling": SamplingTracking,
}  # fmt: skip


class Tensor(Protocol):
    """A named tensor: `manifest.TensorSpec`."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> Shape: ...


class Graph(Protocol):
    """A graph's file and tensors: `manifest.GraphSpec`."""

    @property
    def file(self) -> str: ...
    @property
    def inputs(self) -> tuple[Tensor, ...]: ...
    @property
    def outputs(self) -> tuple[Tensor, ...]: ...


def require_usable(
    graphs: Mapping[str, Graph], crop: Preprocessing, decoding: Decoding, tracking: Constants, strategies: Strategies,
    batch: int = 1,
) -> None:  # fmt: skip
    """Raise `ValueError` for constants out of range or graphs that do not fit."""
    _require_ranges(crop, decoding, tracking, strategies)
    if batch != 1 and (batch < 1 or not can_batch(decoding, strategies)):
        raise ValueError(f"batch {batch}, but only a plain tracker with a proposal head follows several targets")
    wanted = {"template", "search", *map(wide_graph, strategies.search_sizes)}
    wanted |= {"refine"} if strategies.mask else set()
    wanted |= {"update"} if isinstance(strategies.template, TransformUpdate) else set()
    if set(graphs) != wanted:
        raise ValueError(f"graphs are {', '.join(sorted(graphs))}, not {', '.join(sorted(wanted))}")
    template, mask = graphs["template"], strategies.mask
    _require_template_policy(graphs, strategies)
    if mask and (mask.template_size, mask.search_size) != (crop.template_size, crop.search_size):
        raise ValueError("the mask's crop sizes must be those of the preprocessing")
    if mask:
        _require_refine(graphs["refine"], graphs["search"], mask)
    _require_inputs(template, 1, crop.template_size, _template_inputs(decoding, strategies))
    for size in (crop.search_size, *strategies.search_sizes):
        graph = graphs["search" if size == crop.search_size else wide_graph(size)]
        _require_search(graph, template, size, decoding, batch)
        _require_outputs(graph, decoding, size - crop.search_size)


def can_batch(decoding: Decoding, strategies: Strategies) -> bool:
    """Whether several targets can share a search graph: each has one crop, and nothing else runs between frames."""
    return isinstance(decoding, Proposals) and dataclasses.replace(strategies, loss=None) == Strategies()


def _template_inputs(decoding: Decoding, strategies: Strategies) -> dict[str, Shape]:
    inputs: dict[str, Shape] = {}
    if strategies.spatial_mask:
        inputs["mask"] = (1, 1, strategies.spatial_mask.side, strategies.spatial_mask.side)
    if isinstance(decoding, SamplingDecoding):
        inputs["box"] = (1, 4)
    return inputs


def _require_ranges(crop: Preprocessing, decoding: Decoding, tracking: Constants, strategies: Strategies) -> None:
    if not isinstance(tracking, CONSTANTS[decoding.kind]):
        raise ValueError(f"tracking holds other constants than {decoding.kind} decoding needs")
    require_numbers("tracking and context_amount", 0.0, *numbers_of((tracking, crop)))
    _require_strategies(strategies)
    sides = [crop.template_size, crop.search_size, crop.scale_size, tracking.min_side, *strategies.search_sizes]
    require_numbers("crop sizes and min_side", 1e-6, *sides)
    if isinstance(decoding, ResponseDecoding) and not all(map(math.isfinite, decoding.angles_rad)):
        raise ValueError("angles_rad must be finite")
    if strategies.loss and not can_batch(decoding, strategies):
        raise ValueError("loss detection needs a proposal head and no other strategy")
    needs_proposals = strategies.search or strategies.mask or isinstance(strategies.template, DistractorAware)
    if needs_proposals and not isinstance(decoding, Proposals):
        raise ValueError(f"{decoding.kind} decoding knows no other search sizes, masks or distractors")
    positive = dataclasses.replace(decoding, angles_rad=()) if isinstance(decoding, ResponseDecoding) else decoding
    require_numbers("the numbers of decoding", 1e-6, *numbers_of(positive))
    windows = [getattr(item, "window_influence", 0.0) for item in (tracking, strategies.search)]
    if max(windows) >= 1:
        raise ValueError("window_influence must be below 1: at 1 the window alone would choose")
    if isinstance(decoding, ResponseDecoding) and 1.0 not in decoding.scales:
        raise ValueError("scales must hold 1, the unchanged one")


def _require_strategies(strategies: Strategies) -> None:
    search, template, mask = strategies.search, strategies.template, strategies.mask
    others = dataclasses.replace(strategies, mask=None, loss=None)  # these may hold negative numbers
    require_numbers("strategies", 0.0, *(numbers_of(others) or (0.0,)))
    if search:
        require_numbers("the sizes of the search", 1, *search.sizes)
    if isinstance(search, LongTermSearch) and not search.low <= search.high <= 1:
        raise ValueError("a long-term search needs low <= high <= 1")
    if isinstance(template, BlendedTemplate) and max(template.first_share, template.rate) > 1:
        raise ValueError("first_share and rate of a blended template are shares, at most 1")
    if isinstance(template, DistractorAware):
        require_numbers("top_k of the distractor-aware template", 1, template.top_k)
    if strategies.loss:
        _require_loss(strategies.loss)
    if mask:
        outside = dataclasses.replace(mask, outside=0.0)
        require_numbers("mask", 0.0, *numbers_of(outside), abs(mask.outside))
        require_numbers("the mask's sizes and stride", 1, mask.mask_size, mask.template_size, mask.stride)


def _require_loss(loss: LossDetection) -> None:
    weights = loss.score_weight, loss.psr_weight, loss.second_weight, loss.similarity_weight
    require_numbers("the weights of loss detection", 0.0, *weights)
    require_numbers("searches of loss detection", 3, loss.searches)
    require_numbers("rings of loss detection", 1, loss.rings)
    require_numbers("the numbers of loss detection", -math.inf, *numbers_of(loss))
    if not (0 < loss.rate <= 1 and 0 <= loss.memory_rate <= 1):
        raise ValueError("rate and memory_rate of loss detection are shares, at most 1")
    if not loss.lost <= loss.sought <= loss.uncertain:
        raise ValueError("loss detection needs lost <= sought <= uncertain")


def _require_refine(refine: Graph, search: Graph, mask: MaskDecoding) -> None:
    known = {tensor.name: tensor.shape for tensor in search.outputs} | {"position": (2,)}
    found = [(tensor.name, math.prod(tensor.shape)) for tensor in refine.outputs]
    inputs = {tensor.name: tensor.shape for tensor in refine.inputs}
    if not inputs.items() <= known.items() or found != [("mask", mask.mask_size**2)]:
        raise ValueError("the refine graph must make a mask of mask_size from outputs of the search graph and position")


def _require_template_policy(graphs: Mapping[str, Graph], strategies: Strategies) -> None:
    """The tensors that the policy replaces exist, and so does what it makes them of."""
    policy, template = strategies.template, {tensor.name: tensor.shape for tensor in graphs["template"].outputs}
    if isinstance(policy, DistractorAware):
        names = [tensor.name for tensor in graphs["search"].outputs]
        replaced = template.get(policy.kernel)
        if replaced is None or replaced != template.get(policy.similarity) or "distractor" not in names:
            raise ValueError("a distractor-aware template needs two kernels of one shape and the output distractor")
    if isinstance(policy, TransformUpdate):
        update = graphs["update"]
        outputs = {tensor.name.removeprefix("updated_"): tensor.shape for tensor in update.outputs}
        inputs = {tensor.name: tensor.shape for tensor in update.inputs if tensor.name not in ("z", "x")}
        if not outputs.items() <= template.items() or not inputs.items() <= template.items():
            raise ValueError("the update graph must make template tensors of crops and template tensors")


def _require_inputs(graph: Graph, batch: int, side: int, extra: Mapping[str, Shape]) -> None:
    """A crop first, then the tensors of `extra`."""
    if not graph.inputs or graph.inputs[0].shape[1:] != (3, side, side):
        raise ValueError(f"the first input of {graph.file} must be a crop of 3x{side}x{side}")
    if batch > 1 and graph.inputs[0].shape[0] != batch:
        raise ValueError(f"the first input of {graph.file} must hold {batch} crops")
    if [(tensor.name, tensor.shape) for tensor in graph.inputs[1:]] != list(extra.items()):
        raise ValueError(f"the inputs of {graph.file} after the crop must be {dict(extra) or 'none'}")


def _require_search(graph: Graph, template: Graph, size: int, decoding: Decoding, batch: int) -> None:
    extra = {tensor.name: (batch * tensor.shape[0], *tensor.shape[1:]) for tensor in template.outputs}
    if isinstance(decoding, SamplingDecoding):
        extra["boxes"] = (decoding.boxes, 4)
    _require_inputs(graph, batch * search_batch(decoding), size, extra)


def _require_outputs(graph: Graph, decoding: Decoding, wider: int) -> None:
    maps = {tensor.name: tensor.shape for tensor in graph.outputs}
    for name, wanted in _outputs(decoding, wider).items():
        if name not in maps or maps[name][-len(wanted) :] != wanted:
            raise ValueError(f"{graph.file}'s {name} must be (N, {', '.join(map(str, wanted))})")


def _outputs(decoding: Decoding, wider: int) -> dict[str, Shape]:
    """Shapes after the batch, for a search crop `wider` pixels wider than the ordinary one."""
    if isinstance(decoding, SamplingDecoding):
        return {"similarity": (decoding.boxes,)}
    side = decoding.score_size + wider // decoding.stride
    if isinstance(decoding, ResponseDecoding):
        return {"response": (1, side, side)}
    proposals: Proposals = decoding
    return {"cls": (2 * proposals.anchors, side, side), "loc": (4 * proposals.anchors, side, side)}
