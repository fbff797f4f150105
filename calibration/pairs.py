"""Template and search crops of real sequences, cut by the code that tracks and kept on disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from collections.abc import Sequence as Several
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from siamtrt.boxes import BoxXywh
from siamtrt.calibration.crop_file import CropFile
from siamtrt.calibration.labels import Label, Labelled, labelled_sequence
from siamtrt.calibration.sampling import choose_pairs
from siamtrt.closing import Closing
from siamtrt.errors import CalibrationError
from siamtrt.manifest import Manifest
from siamtrt.runtime.crop import CropBuffer, Fill, mean_colour
from siamtrt.runtime.search import ORDINARY, search_decoders
from siamtrt.runtime.sequences import Sequence
from siamtrt.runtime.state import TargetState
from siamtrt.runtime.templates import TemplateCutter

MINIMUM_PAIRS = 8  # fewer say nothing of a tensor's range


@dataclass(frozen=True)
class Pair:
    """A target in one frame, and what the tracker sees when it looks for it in a later one.

    Attributes:
        template: (1, 3, T, T) float32, whole numbers in 0..255.
        search: (V, 3, S, S) float32 likewise, a crop for each of the decoder's views.
        state: what the tracker knows before the search frame: the box of the frame before it, the template's size as
            `first_wh`.
        frame_size: (width, height) of the frames in pixels.
        truth_xywh: the target in the search frame, in pixels of that frame.
        name: `Man:3>57` is sequence Man, template from frame 3, search in frame 57, frames counted from 0.
    """

    template: np.ndarray
    search: np.ndarray
    state: TargetState
    frame_size: tuple[int, int]
    truth_xywh: BoxXywh
    name: str


class Facts(NamedTuple):
    """A `Pair` without its crops."""

    state: TargetState
    frame_size: tuple[int, int]
    truth_xywh: BoxXywh
    name: str


class Pairs(Closing):
    """Pairs in the order of the sequences, within one of the search frames. A context manager, or call `close`.

    Crops lie in a memory-mapped temporary file without a name, a byte a value; a pair's crops are in memory from its
    indexing on. `len(pairs)` is below `requested` where there were no more than `candidates`.

    Attributes:
        requested: pairs asked for.
        candidates: pairs that the sequences could have given.
        skipped: names of sequences without candidates.
    """

    def __init__(
        self, facts: Several[Facts], crops: CropFile, requested: int, candidates: int, skipped: tuple[str, ...]
    ) -> None:
        self._facts, self._crops = tuple(facts), crops
        self.requested, self.candidates, self.skipped = requested, candidates, skipped

    def __len__(self) -> int:
        return len(self._facts)

    def __getitem__(self, index: int) -> Pair:
        """One pair.

        Raises:
            IndexError: there is none of that number.
            CalibrationError: the pairs are closed.
        """
        template, search = self._crops.read(range(len(self))[index])
        return Pair(template, search, *self._facts[index])

    def __iter__(self) -> Iterator[Pair]:
        return (self[index] for index in range(len(self)))

    def close(self) -> None:
        """Delete the crops; closing twice is allowed."""
        self._crops.close()


class PairCutter:
    """Cuts crops as `Tracker.init` and `Tracker.update` do.

    Args:
        manifest: of a bundle that follows one target with crops and template tensors alone.

    Raises:
        CalibrationError: the bundle's graphs take something else beside these.
    """

    def __init__(self, manifest: Manifest) -> None:
        _require_crops_alone(manifest)
        crop = manifest.preprocessing
        count, _, size, _ = manifest.graphs[ORDINARY].inputs[0].shape
        self._templates = TemplateCutter(crop)
        self._decoder = search_decoders(manifest)[ORDINARY]
        self._buffer = CropBuffer(size, count, crop.channel_order)

    def template(self, frame: np.ndarray, state: TargetState, fill: Fill) -> np.ndarray:
        """(1, 3, T, T) float32; valid until the next call."""
        return self._templates.cut(frame, state, fill)

    def search(self, frame: np.ndarray, state: TargetState, fill: Fill) -> np.ndarray:
        """(V, 3, S, S) float32, V views; valid until the next call."""
        return self._buffer.cut_views(frame, state.center_xy, self._decoder.views(state), fill)


def _require_crops_alone(manifest: Manifest) -> None:
    template, search = manifest.graphs["template"], manifest.graphs[ORDINARY]
    made = {tensor.name for tensor in template.outputs}
    others = [*template.inputs[1:], *(tensor for tensor in search.inputs[1:] if tensor.name not in made)]
    if others or manifest.batch != 1:
        received = f"inputs {', '.join(t.name for t in others)}" if others else f"a batch of {manifest.batch} targets"
        raise CalibrationError(
            f"{manifest.model} cannot be calibrated", received=received,
            expected="graphs for one target that take crops and template tensors alone",
            fix="keep its FP16 engines" if others else "export it again without --batch",
        )  # fmt: skip


def sample_pairs(
    manifest: Manifest, sequences: Several[Sequence], count: int, seed: int = 0, label: Label | None = None,
    progress: bool = False,
) -> Pairs:  # fmt: skip
    """Cut pairs from sequences: the same for the same arguments, spread as `choose_pairs` says.

    A pair has the target in a template frame, in a later search frame and in the frame before that, around whose box
    the search crop is cut: shift and change of scale are the sequence's own from frame to frame. Frames are read once
    and in order, the first once more for its size, and those after the last that is needed not at all.

    Args:
        manifest: of the bundle.
        sequences: what to cut from.
        count: pairs wanted; all there are, where there are fewer.
        seed: of the choice of frames.
        label: gives the (F, 4) boxes of a sequence that is `init_only`, such as `labels_by_tracking(bundle)`.
        progress: show a bar on stderr.

    Raises:
        CalibrationError: a tracker that takes more than crops, too few pairs, targets that are absent throughout, a
            sequence without boxes, labels of another shape, or a full disk.
        SourceError: frames that cannot be read, or that are not all of one size.
    """
    cutter = PairCutter(manifest)
    labelled = [labelled_sequence(sequence, label) for sequence in sequences]
    total = _require_enough(labelled, count)
    chosen = choose_pairs([item.candidates for item in labelled], min(count, total), np.random.default_rng(seed))
    facts = [_facts(item, *pair) for item, pairs in zip(labelled, chosen, strict=True) for pair in pairs.tolist()]
    crops = CropFile(len(facts), *(manifest.graphs[graph].inputs[0].shape for graph in ("template", ORDINARY)))
    try:
        _cut_all(labelled, chosen, cutter, crops, progress)
        crops.finish()
    except BaseException:
        crops.close()
        raise
    skipped = tuple(item.sequence.name for item in labelled if not item.candidates.count)
    return Pairs(facts, crops, count, total, skipped)


def _require_enough(labelled: Several[Labelled], count: int) -> int:
    """How many pairs there are."""
    total = sum(item.candidates.count for item in labelled)
    if labelled and not any(len(item.candidates.templates) for item in labelled):
        raise CalibrationError(
            "no target to calibrate with", received=f"{_several(labelled)} in which it is absent from every frame",
            expected="boxes of positive size that overlap the frame", fix="check the boxes: x,y,w,h in pixels",
        )  # fmt: skip
    if min(count, total) < MINIMUM_PAIRS:
        raise CalibrationError(
            "too few pairs", received=f"{count} asked for, {total} in {_several(labelled)}",
            expected=f"at least {MINIMUM_PAIRS}",
            fix="ask for more" if count < MINIMUM_PAIRS else "add sequences that show the target in more frames",
        )  # fmt: skip
    return total


def _several(labelled: Several[Labelled]) -> str:
    return f"{len(labelled)} sequence{'s' * (len(labelled) != 1)}"


def _facts(item: Labelled, template: int, search: int) -> Facts:
    name = f"{item.sequence.name}:{template}>{search}"
    state = dataclasses.replace(item.state(search - 1), first_wh=item.state(template).size_wh)
    return Facts(state, item.frame_size, item.box(search), name)


def _cut_all(
    labelled: Several[Labelled], chosen: Several[np.ndarray], cutter: PairCutter, crops: CropFile, progress: bool
) -> None:
    used = [(item, pairs) for item, pairs in zip(labelled, chosen, strict=True) if len(pairs)]
    frames = sum(int(pairs[:, 1].max()) + 1 for _, pairs in used)
    first = 0
    with tqdm(total=frames, unit="frame", disable=None if progress else True) as bar:
        for item, pairs in used:
            bar.set_description(item.sequence.name)
            for _ in _cut(item, pairs, first, cutter, crops):
                bar.update()
            first += len(pairs)


def _cut(item: Labelled, pairs: np.ndarray, first: int, cutter: PairCutter, crops: CropFile) -> Iterator[None]:
    """Cut the pairs of a sequence into the rows of a file from `first` on; yields after every frame read."""
    fills: dict[int, Fill] = {}
    templates, searches = pairs.T
    for number, frame in item.frames(int(searches.max()) + 1):
        if number in templates:
            fills[number] = mean_colour(frame)
            crop = cutter.template(frame, item.state(number), fills[number])
            for pair in np.flatnonzero(templates == number):
                crops.write(first + int(pair), 0, crop)
        for pair in np.flatnonzero(searches == number):
            crop = cutter.search(frame, item.state(number - 1), fills[int(templates[pair])])
            crops.write(first + int(pair), 1, crop)
        yield
