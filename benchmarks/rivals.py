"""What `siamtrt bench --compare` runs beside a tracker: OpenCV's own trackers, and the same network in PyTorch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from siamtrt.boxes import BoxXywh
from siamtrt.errors import BoxError, MissingPackageError, SiamtrtError
from siamtrt.manifest import load_manifest
from siamtrt.runtime.tracker import StageTimes, Tracker

OPENCV, TORCH = "opencv", "torch"
NAMES = "opencv, torch, opencv:mil, opencv:nano, opencv:vit"


class Contender(Protocol):
    """One of the trackers that are timed together.

    Attributes:
        software: what computes it, with its version.
        threads: CPU threads; None where the runtime chooses by the network's size.
    """

    name: str
    software: str
    threads: int | None

    def init(self, frame: np.ndarray, box_xywh: Sequence[float]) -> None:
        """Take the target from a frame.

        Raises:
            SiamtrtError: it cannot.
        """
        ...

    def update(self, frame: np.ndarray) -> BoxXywh | None:
        """The target in the next frame, None where it says that it has lost it.

        Raises:
            SiamtrtError: it cannot go on.
        """
        ...


class TrackerContender:
    """A `Tracker`, and the stages' times of its updates."""

    def __init__(self, name: str, tracker: Tracker, software: str, threads: int | None) -> None:
        self.name, self.software, self.threads = name, software, threads
        self.times: list[StageTimes] = []
        self._tracker = tracker

    def init(self, frame: np.ndarray, box_xywh: Sequence[float]) -> None:
        """See `Contender.init`."""
        self._tracker.init(frame, box_xywh)

    def update(self, frame: np.ndarray) -> BoxXywh | None:
        """See `Contender.update`; a `Tracker` has a box for every frame."""
        result = self._tracker.update(frame)
        self.times.append(result.times)
        return result.box_xywh


@dataclass(frozen=True)
class OpenCvKind:
    """One of OpenCV's trackers.

    Attributes:
        kind: its class.
        files: the parameters that are model files, in the order `--opencv-model` takes them.
        smallest_side: of a target in pixels; below it TrackerMIL looks for features without end.
    """

    kind: str
    files: tuple[str, ...] = ()
    smallest_side: int = 1


OPENCV_KINDS = {
    "mil": OpenCvKind("TrackerMIL", smallest_side=5),
    "nano": OpenCvKind("TrackerNano", ("backbone", "neckhead")),
    "vit": OpenCvKind("TrackerVit", ("net",)),
}
Models = Mapping[str, tuple[Path, ...]]


class OpenCvContender:
    """One of OpenCV's trackers.

    Raises:
        MissingPackageError: an OpenCV without it.
        SiamtrtError: it cannot read its models.
    """

    def __init__(self, short: str, files: Sequence[Path]) -> None:
        self.name, self.software = f"{OPENCV}:{short}", f"OpenCV {cv2.__version__}"
        self.threads: int | None = cv2.getNumThreads()
        self._spec = OPENCV_KINDS[short]
        kind = self._spec.kind
        if not hasattr(cv2, f"{kind}_create"):
            raise MissingPackageError(
                f"this OpenCV has no {kind}", received=cv2.__version__, expected="4.9 or later with the video module",
                fix=f"pip install -U opencv-python, or leave {self.name} out of --compare",
            )
        parameters = getattr(cv2, f"{kind}_Params")()
        for attribute, path in zip(self._spec.files, files, strict=True):
            setattr(parameters, attribute, str(path))
        try:
            self._tracker: Any = getattr(cv2, f"{kind}_create")(parameters)
        except cv2.error as error:
            raise self._refused(f"cannot read {', '.join(map(str, files))}", error) from error

    def init(self, frame: np.ndarray, box_xywh: Sequence[float]) -> None:
        """See `Contender.init`; OpenCV takes whole pixels inside the frame."""
        height, width = frame.shape[:2]
        x, y, w, h = box_xywh
        corners = np.clip([x, y, x + w, y + h], 0, [width, height, width, height])
        left, upper, right, lower = np.rint(corners).astype(int).tolist()
        box = (left, upper, right - left, lower - upper)
        if min(box[2:]) < self._spec.smallest_side:
            raise BoxError(
                f"{self.name} cannot start there", received="{},{},{},{} in whole pixels of the frame".format(*box),
                expected=f"sides of at least {self._spec.smallest_side} pixels",
                fix=f"give a larger box, or leave {self.name} out of --compare",
            )
        try:
            self._tracker.init(frame, box)
        except cv2.error as error:
            raise self._refused("cannot start on the first frame", error) from error

    def update(self, frame: np.ndarray) -> BoxXywh | None:
        """See `Contender.update`."""
        try:
            found, box = self._tracker.update(frame)
        except cv2.error as error:
            raise self._refused("stopped in the middle", error) from error
        x, y, w, h = (float(value) for value in box)
        return (x, y, w, h) if found and w > 0 and h > 0 else None

    def _refused(self, what: str, error: cv2.error) -> SiamtrtError:
        files = " and then ".join(self._spec.files)
        expected = f"{self._spec.kind}'s {files} as ONNX" if files else f"a target that {self._spec.kind} can follow"
        return SiamtrtError(
            f"{self.name} {what}", received=str(getattr(error, "err", "") or error), expected=expected,
            fix=f"check {'--opencv-model and ' * bool(files)}the box, or leave {self.name} out of --compare",
        )


def parse_models(specs: Iterable[str]) -> dict[str, tuple[Path, ...]]:
    """Model files of OpenCV's trackers from `NAME=FILE[,FILE]`.

    Raises:
        SiamtrtError: another form, an unknown name or one twice, a wrong number of files, or one that is not there.
    """
    models: dict[str, tuple[Path, ...]] = {}
    for spec in specs:
        name, _, listed = spec.partition("=")
        files = tuple(Path(part) for part in listed.split(",") if part)
        wanted = OPENCV_KINDS[name].files if name in OPENCV_KINDS else ()
        if not wanted or name in models or len(files) != len(wanted):
            raise _no_model(repr(spec))
        if absent := [str(path) for path in files if not path.is_file()]:
            raise _no_model(f"no file {', '.join(absent)}")
        models[name] = files
    return models


def _no_model(received: str) -> SiamtrtError:
    forms = ", ".join(f"{short}={_files_of(short)}" for short, kind in OPENCV_KINDS.items() if kind.files)
    return SiamtrtError(
        "no model for OpenCV", received=received, expected=f"{forms}, each once", fix="correct --opencv-model"
    )


def _files_of(short: str) -> str:
    return ",".join(f"{part.upper()}.onnx" for part in OPENCV_KINDS[short].files)


def chosen_rivals(compare: str, models: Models) -> tuple[str, ...]:
    """Names of the contenders beside ours, each once; `opencv` is TrackerMIL and those of OpenCV's with a model.

    Args:
        compare: comma-separated names.
        models: see `parse_models`.

    Raises:
        SiamtrtError: an unknown name, or none; a tracker without its model, or a model without its tracker.
    """
    chosen: list[str] = []
    for name in filter(None, map(str.strip, compare.split(","))):
        short = name.removeprefix(f"{OPENCV}:")
        if name == OPENCV:
            chosen += [f"{OPENCV}:{short}" for short, kind in OPENCV_KINDS.items() if not kind.files or short in models]
        elif name == TORCH or (name != short and short in OPENCV_KINDS):
            chosen.append(name)
        else:
            raise SiamtrtError("no such rival", received=repr(name), expected=NAMES, fix="correct --compare")
        if name != short and OPENCV_KINDS[short].files and short not in models:
            raise SiamtrtError(
                f"{name} without its model", received="no --opencv-model for it", expected="its files",
                fix=f"give --opencv-model {short}={_files_of(short)}",
            )
    if idle := [name for name in models if f"{OPENCV}:{name}" not in chosen]:
        raise SiamtrtError(
            "a model that nothing compares", received=f"--opencv-model {idle[0]}=...",
            expected=f"opencv or {OPENCV}:{idle[0]} in --compare", fix="add it, or leave the model out",
        )
    if not chosen:
        raise SiamtrtError("nothing to compare with", received=repr(compare), expected=NAMES, fix="name a rival")
    return tuple(dict.fromkeys(chosen))


@contextmanager
def opened_rivals(
    names: Sequence[str], models: Models, bundle: Path, *, ours: str, threads: int | None, checkpoint: Path | None
) -> Iterator[list[Contender]]:
    """The rivals, ready; the thread counts of OpenCV and PyTorch, which are the process's, are as before afterwards.

    Args:
        ours: the backend they are compared with; PyTorch runs on the GPU where ours does and it can.
        threads: CPU threads of each; None leaves every library its own choice.

    Raises:
        SiamtrtError: PyTorch beside itself; what `OpenCvContender` and `load_module` raise.
    """
    with ExitStack() as stack:
        if threads and any(name != TORCH for name in names):
            stack.callback(cv2.setNumThreads, cv2.getNumThreads())
            cv2.setNumThreads(threads)
        rivals: list[Contender] = []
        for name in names:
            if name == TORCH:
                rivals.append(_torch_rival(stack, bundle, ours, threads, checkpoint))
            else:
                short = name.removeprefix(f"{OPENCV}:")
                rivals.append(OpenCvContender(short, models.get(short, ())))
        yield rivals


def _torch_rival(
    stack: ExitStack, bundle: Path, ours: str, threads: int | None, checkpoint: Path | None
) -> TrackerContender:
    if ours == TORCH:
        raise SiamtrtError(
            "PyTorch beside itself", received="--backend torch --compare torch", expected="two different ones",
            fix="leave out one of them",
        )
    import torch

    from siamtrt.runtime.torch_session import TorchSession, load_module

    stack.callback(torch.set_num_threads, torch.get_num_threads())
    manifest = load_manifest(bundle)
    module = load_module(manifest, checkpoint, threads)
    device = "cuda" if ours.startswith("tensorrt") and torch.cuda.is_available() else "cpu"
    sessions = {graph: TorchSession(module, graph, spec, device) for graph, spec in manifest.graphs.items()}
    tracker = stack.enter_context(Tracker(manifest, sessions))
    return TrackerContender(TORCH, tracker, f"PyTorch {torch.__version__} on {device}", torch.get_num_threads())
