"""Which crop the next frame is searched in, and what decodes it."""

from __future__ import annotations

import dataclasses

from siamtrt.manifest import Manifest
from siamtrt.runtime.decode import Decoder, ProposalDecoder
from siamtrt.runtime.distractors import DistractorAwareDecoder
from siamtrt.runtime.response import ResponseDecoder
from siamtrt.runtime.sampling import SamplingDecoder
from siamtrt.runtime.state import TargetState
from siamtrt.tracking import (
    AdaptiveSearch,
    DistractorAware,
    LongTermSearch,
    Preprocessing,
    Proposals,
    ResponseDecoding,
    ResponseTracking,
    SamplingDecoding,
    SamplingTracking,
    SearchPolicy,
    Tracking,
    wide_graph,
)

ORDINARY = "search"


def search_decoders(manifest: Manifest) -> dict[str, Decoder]:
    """The decoder of each search graph of a bundle."""
    decoders = {ORDINARY: _decoder(manifest, manifest.preprocessing.search_size)}
    for size in manifest.strategies.search_sizes:
        decoders[wide_graph(size)] = _decoder(manifest, size)
    return decoders


def _decoder(manifest: Manifest, size: int) -> Decoder:
    decoding, tracking = manifest.decoding, manifest.tracking
    crop = dataclasses.replace(manifest.preprocessing, search_size=size)
    if isinstance(decoding, ResponseDecoding) and isinstance(tracking, ResponseTracking):
        return ResponseDecoder(decoding, tracking, crop)
    if isinstance(decoding, SamplingDecoding) and isinstance(tracking, SamplingTracking):
        return SamplingDecoder(decoding, tracking, crop)
    if isinstance(decoding, Proposals) and isinstance(tracking, Tracking):
        return _proposal_decoder(manifest, decoding, tracking, crop)
    raise TypeError(f"no decoder for {decoding.kind} with {type(tracking).__name__}")  # the manifest rules it out


def _proposal_decoder(manifest: Manifest, decoding: Proposals, tracking: Tracking, crop: Preprocessing) -> Decoder:
    policy, template = manifest.strategies.search, manifest.strategies.template
    wider = crop.search_size - manifest.preprocessing.search_size
    decoding = dataclasses.replace(decoding, score_size=decoding.score_size + wider // decoding.stride)
    if wider and isinstance(policy, LongTermSearch):
        tracking = dataclasses.replace(tracking, window_influence=policy.window_influence)
    if isinstance(template, DistractorAware):
        return DistractorAwareDecoder(decoding, tracking, crop, template)
    return ProposalDecoder(decoding, tracking, crop)


def first_search(policy: SearchPolicy | None, state: TargetState, frame_size: tuple[int, int]) -> str:
    """The search graph of a new target."""
    if not isinstance(policy, AdaptiveSearch):
        return ORDINARY
    (width, height), (frame_width, frame_height) = state.size_wh, frame_size
    small = width * height < policy.area_share * frame_width * frame_height
    return wide_graph(policy.sizes[0]) if small else ORDINARY


def next_search(policy: SearchPolicy | None, old: TargetState, new: TargetState) -> TargetState:
    """`new` with the search graph of the next frame; a target that is lost stays where it was in `old`."""
    if not isinstance(policy, LongTermSearch) or new.status == "invalid":
        return new
    if new.score < policy.low:
        ladder = (ORDINARY, *map(wide_graph, policy.sizes))
        wider = ladder[min(ladder.index(old.search) + 1, len(policy.sizes))]
        return dataclasses.replace(old, score=new.score, status="lost", search=wider, distractors=())
    return dataclasses.replace(new, search=ORDINARY) if new.score > policy.high else new
