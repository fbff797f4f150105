"""How a bundle tracks: crops, decoding, constants and strategies, as its manifest holds them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

LARGEST_NUMBER = 1e9  # of a manifest; the crops' geometry overflows far above it


@dataclass(frozen=True)
class Preprocessing:
    """How a frame becomes a network input.

    `template_size` and `search_size` are the sides of the square crops in pixels; `exemplar_size` pixels of either
    hold the target with its context, whose margin is `context_amount` of width plus height (SiamRPN, eq. 15: 0.5).
    Without `exemplar_size` the template crop holds no more than that. Pixels go in as 0..255 floats, in planes of
    `channel_order`, not normalised.
    """

    template_size: int
    search_size: int
    context_amount: float = 0.5
    channel_order: Literal["bgr", "rgb"] = "bgr"
    exemplar_size: int | None = None

    @property
    def scale_size(self) -> int:
        """Pixels of a crop that hold the target with its context."""
        return self.exemplar_size or self.template_size


@dataclass(frozen=True)
class AnchorDecoding:
    """Anchor boxes of a region proposal head (SiamRPN, sec. 3.2 and 3.3).

    One anchor per ratio and scale at each of `score_size` x `score_size` positions,
    `stride` search-crop pixels apart, centred on the crop.
    """

    score_size: int
    stride: int
    ratios: tuple[float, ...]
    scales: tuple[float, ...]
    kind: Literal["anchor"] = "anchor"

    @property
    def anchors(self) -> int:
        """Boxes at each position."""
        return len(self.ratios) * len(self.scales)


@dataclass(frozen=True)
class PointDecoding:
    """Anchor-free head: distances left, top, right, bottom from a grid of points (SiamBAN, eq. 3)."""

    score_size: int
    stride: int
    kind: Literal["point"] = "point"

    @property
    def anchors(self) -> int:
        """Boxes at each position."""
        return 1


@dataclass(frozen=True)
class ResponseDecoding:
    """One response map a search crop, the crops at several scales and angles (SiamFC, sec. 2.2; Siam-BM, sec. 3.2).

    The maps are enlarged `upsampling` times. `scales` holds 1, the unchanged scale; each angle in radians adds
    a crop of that scale, so that a target changes its scale or its angle, one at a time.
    """

    score_size: int
    stride: int
    scales: tuple[float, ...] = (1.0,)
    angles_rad: tuple[float, ...] = ()
    upsampling: int = 16
    kind: Literal["response"] = "response"

    @property
    def candidates(self) -> tuple[tuple[float, float], ...]:
        """(scale, angle) of every search crop."""
        return (*((scale, 0.0) for scale in self.scales), *((1.0, angle) for angle in self.angles_rad))


@dataclass(frozen=True)
class SamplingDecoding:
    """Candidate boxes around the last one, compared with the target in one batch (SINT, sec. 3.3).

    At `radial` distances up to `radius_share` of the frame's width and `angular` directions, and at the centre,
    each location with a box of every scale.
    """

    radial: int
    angular: int
    scales: tuple[float, ...]
    radius_share: float
    kind: Literal["sampling"] = "sampling"

    @property
    def boxes(self) -> int:
        """Candidates a frame."""
        return (self.radial * self.angular + 1) * len(self.scales)


Decoding = AnchorDecoding | PointDecoding | ResponseDecoding | SamplingDecoding
Proposals = AnchorDecoding | PointDecoding


def search_batch(decoding: Decoding) -> int:
    """Search crops a frame."""
    return len(decoding.candidates) if isinstance(decoding, ResponseDecoding) else 1


@dataclass(frozen=True)
class Tracking:
    """Constants of proposal selection (SiamRPN, sec. 4.3 and eq. 13) and the smallest box side in pixels."""

    penalty_k: float
    window_influence: float
    lr: float
    min_side: float = 10.0


@dataclass(frozen=True)
class ResponseTracking:
    """Constants of a response map's peak (SiamFC, sec. 2.2).

    A changed scale multiplies the response by `scale_penalty`, a changed angle by `angle_penalty`; the target's size
    follows the scale chosen with rate `scale_lr`.
    """

    scale_penalty: float
    window_influence: float
    scale_lr: float
    angle_penalty: float = 1.0
    min_side: float = 10.0


@dataclass(frozen=True)
class SamplingTracking:
    """Constants of candidate matching: the smallest box side in pixels."""

    min_side: float = 10.0


Constants = Tracking | ResponseTracking | SamplingTracking


@dataclass(frozen=True)
class LongTermSearch:
    """A lost target is searched for in ever wider crops (SiamRPN++, sec. 4.4; DaSiamRPN's local-to-global search).

    `sizes` are the sides in pixels of the wide crops, each with its own search graph `search_<size>`; a frame whose
    best score is below `low` leaves the box where it was and takes the next size, one above `high` returns to the
    ordinary crop. `window_influence` replaces the ordinary one meanwhile.
    """

    sizes: tuple[int, ...]
    low: float
    high: float
    window_influence: float = 0.001
    kind: Literal["long_term"] = "long_term"


@dataclass(frozen=True)
class AdaptiveSearch:
    """A target that covers less than `area_share` of the first frame is searched for in crops of the one size in
    `sizes`, in pixels."""

    sizes: tuple[int]
    area_share: float
    kind: Literal["adaptive"] = "adaptive"


SearchPolicy = LongTermSearch | AdaptiveSearch


@dataclass(frozen=True)
class TransformUpdate:
    """Every frame, the graph `update` learns the tensors it returns anew from crops at the target (DSiam, sec. 3.2)."""

    kind: Literal["transform"] = "transform"


@dataclass(frozen=True)
class BlendedTemplate:
    """The template's tensors follow the target slowly (Siam-BM, sec. 3.4).

    Used are `first_share` of the first frame's tensors and the rest of an average, which moves towards those of the
    last frame with `rate`.
    """

    first_share: float
    rate: float
    kind: Literal["blended"] = "blended"


@dataclass(frozen=True)
class DistractorAware:
    """Proposals that resemble distractors of the last frame are ranked lower (DaSiamRPN, sec. 3.3).

    Up to `limit` distractors are the proposals, other than the target, whose score exceeds `threshold`, after
    suppression of those that overlap a better one by more than `nms_iou`. Of the `top_k` best proposals the one
    with the highest similarity to the target less `weight` times that to the distractors is chosen. The distractors'
    mean kernel takes the place of the template tensor `kernel`, zero without distractors; a box's own is the
    template tensor `similarity`.
    """

    kernel: str
    similarity: str
    threshold: float
    nms_iou: float
    top_k: int
    limit: int
    weight: float
    kind: Literal["distractor_aware"] = "distractor_aware"


TemplatePolicy = TransformUpdate | BlendedTemplate | DistractorAware


@dataclass(frozen=True)
class SpatialMask:
    """The template graph's input `mask` hides what an elongated target leaves of its square (Siam-BM, sec. 3.3).

    `side` is that of the template's features; beyond `threshold` for height / width or width / height the mask
    is upright or lying.
    """

    threshold: float
    side: int


@dataclass(frozen=True)
class MaskDecoding:
    """A mask of the target at the chosen position of the response map, by the graph `refine` (SiamMask, sec. 3.2).

    `threshold` on the mask's probabilities; `mask_size`: 127 refined, 63 not; `template_size`, `search_size`:
    crop sides in pixels; `stride`: search-crop pixels between positions of the response map, which reaches
    `base_size` strides further than the template slides; `outside`: value of the frame where the mask does not
    reach, 0 in pysot and -1 in foolwood/SiamMask; `min_area`: a contour must enclose more square pixels.
    """

    threshold: float
    mask_size: int = 127
    template_size: int = 127
    search_size: int = 255
    base_size: int = 8
    stride: int = 8
    outside: float = 0.0
    min_area: float = 100.0


@dataclass(frozen=True)
class LossDetection:
    """When a target counts as lost, and how it is looked for (`runtime.watched`, which alone acts on it).

    The log-odds that a box holds the target are the sum of, each times its weight: the score's log-odds, the logarithm
    of the response map's peak-to-sidelobe ratio, by how much the second peak's log-odds are below the score's, and by
    how much the similarity to the template exceeds `similarity`. Their running mean, in which a frame has the share
    `rate`, makes the target uncertain below `uncertain`. Below `sought` it is looked for in `searches` crops a frame:
    the likeliest of the last frame, the last good place, and others in up to `rings` around it. The mean goes on with
    the likeliest place, and below `lost` the target is lost. It is found at a place that has `regained` in two frames
    running. With `memory_rate` a second template, used for the similarity alone, follows a target that is there.
    """

    score_weight: float
    psr_weight: float
    second_weight: float
    similarity_weight: float
    similarity: float
    uncertain: float
    lost: float
    regained: float
    rate: float = 0.3
    memory_rate: float = 0.3
    searches: int = 5
    rings: int = 3
    sought: float = -1.0


@dataclass(frozen=True)
class Strategies:
    """What a tracker does beside cropping and decoding; each is absent in the plain trackers.

    `loss` changes nothing in a `Tracker`, only in a `WatchedTracker`.
    """

    search: SearchPolicy | None = None
    template: TemplatePolicy | None = None
    spatial_mask: SpatialMask | None = None
    mask: MaskDecoding | None = None
    loss: LossDetection | None = None

    @property
    def search_sizes(self) -> tuple[int, ...]:
        """Sides of the search crops beside the ordinary one."""
        return self.search.sizes if self.search else ()


def wide_graph(size: int) -> str:
    """Name of the search graph for another crop size."""
    return f"search_{size}"


def require_numbers(what: str, low: float, *values: float) -> None:
    """Raise `ValueError` unless there are values, all at least `low` and none beyond `LARGEST_NUMBER`."""
    if not values or not all(low <= value and abs(value) <= LARGEST_NUMBER for value in values):
        raise ValueError(f"{what} must be finite numbers of at least {low:g}, not {values}")


def numbers_of(item: object) -> tuple[float, ...]:
    """Every number in the fields of a dataclass, nested dataclasses and tuples included."""
    if isinstance(item, bool | str) or item is None:
        return ()
    if isinstance(item, int | float):
        return (item,)
    if isinstance(item, tuple):
        return tuple(number for value in item for number in numbers_of(value))
    assert dataclasses.is_dataclass(item)
    return tuple(number for field in dataclasses.fields(item) for number in numbers_of(getattr(item, field.name)))
