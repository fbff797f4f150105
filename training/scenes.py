"""Rendered scenes: a textured target moves over a panned photo, and its box is known to the pixel.

Everything follows from a seed. The photos are files of the scikit-image wheel, so nothing is downloaded.
"""

from __future__ import annotations

import contextlib
import importlib.resources
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from siamtrt.boxes import BoxXywh
from siamtrt.errors import MissingPackageError, SiamtrtError
from siamtrt.files import staged_file
from siamtrt.packages import missing_package

PHOTOS = ("coffee.png", "chelsea.png")

_PAD = 4  # transparent pixels around a sprite, so that its soft edge fades out inside the texture
_SCALE = 0.3  # a sprite grows and shrinks by up to exp(0.3) = 1.35
_DISTRACTORS = 3


@lru_cache(maxsize=len(PHOTOS))
def load_photo(name: str) -> np.ndarray:
    """Read a photo of scikit-image's wheel as (H, W, 3) uint8 BGR; do not write to it.

    Raises:
        MissingPackageError: scikit-image is not installed or ships no such photo.
    """
    try:
        data = (importlib.resources.files("skimage") / "data" / name).read_bytes()
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise missing_package("skimage", f"photo {name}", error) from error
    photo = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if photo is None:
        raise MissingPackageError(
            f"photo {name} cannot be decoded", received=f"{len(data)} bytes", expected="a PNG or JPEG",
            fix="pip install --force-reinstall scikit-image",
        )
    photo.flags.writeable = False
    return photo


@dataclass(frozen=True)
class Wave:
    """A smooth function of the frame's index: a middle and two sinusoids, (2,) arrays; frequency in radians a frame."""

    middle: float
    amplitude: np.ndarray
    frequency: np.ndarray
    phase: np.ndarray

    def __call__(self, index: int) -> float:
        return self.middle + float(self.amplitude @ np.sin(self.frequency * index + self.phase))


def random_wave(rng: np.random.Generator, low: float, high: float, max_step: float) -> Wave:
    """A wave that stays in [low, high] and moves at most `max_step` from one frame to the next."""
    half = max(high - low, 1e-6) / 2
    share = rng.uniform(0.5, 0.9)
    amplitude = half * np.array([share, 1 - share])
    fastest = np.minimum(max_step / 2 / amplitude, 2 * math.pi / 24)
    return Wave((low + high) / 2, amplitude, fastest * rng.uniform(0.4, 1.0, 2), rng.uniform(0, 2 * math.pi, 2))


@dataclass(frozen=True)
class Sprite:
    """A textured patch and its motion.

    `texture` is (h, w, 4) float32: BGR 0..255 times alpha, and alpha 0..1. `x` and `y` give its centre in frame
    pixels, `log_scale` the logarithm of its magnification, `angle` its rotation in degrees.
    """

    texture: np.ndarray
    x: Wave
    y: Wave
    log_scale: Wave
    angle: Wave

    def layer(self, index: int, size: tuple[int, int]) -> tuple[tuple[int, int], np.ndarray]:
        """The sprite as it lies in frame `index`: the (left, top) of its window and the (h, w, 4) float32 window."""
        height, width = self.texture.shape[:2]
        x, y, scale = self.x(index), self.y(index), math.exp(self.log_scale(index))
        radius = math.ceil(math.hypot(width, height) * scale / 2) + 1
        left, top = max(0, math.floor(x) - radius), max(0, math.floor(y) - radius)
        right, bottom = min(size[0], math.ceil(x) + radius), min(size[1], math.ceil(y) + radius)
        if right <= left or bottom <= top:
            return (left, top), np.zeros((0, 0, 4), np.float32)
        turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), self.angle(index), scale)
        turn[:, 2] += (x - left - (width - 1) / 2, y - top - (height - 1) / 2)
        return (left, top), cv2.warpAffine(self.texture, turn, (right - left, bottom - top))


@dataclass(frozen=True)
class Scene:
    """A background, distractors and one target in front of them, for any frame index.

    `background` is (h, w, 3) uint8, larger than the frame, panned by `pan_x`, `pan_y`; `gain` is the brightness,
    `blur` a Gaussian's sigma in pixels, `noise` (h, w, 3) int16, shifted from frame to frame.
    """

    size: tuple[int, int]
    background: np.ndarray
    pan_x: Wave
    pan_y: Wave
    distractors: tuple[Sprite, ...]
    target: Sprite
    gain: Wave
    blur: float
    noise: np.ndarray

    def box(self, index: int) -> BoxXywh:
        """Bounds of the target's mask in frame `index`: x, y, w, h in whole pixels."""
        (left, top), layer = self.target.layer(index, self.size)
        x, y, w, h = cv2.boundingRect((layer[..., 3] > 0.5).astype(np.uint8))
        return float(left + x), float(top + y), float(w), float(h)

    def frame(self, index: int) -> np.ndarray:
        """Frame `index`: (height, width, 3) uint8 BGR."""
        width, height = self.size
        left, top = round(self.pan_x(index)), round(self.pan_y(index))
        frame = self.background[top : top + height, left : left + width].copy()
        for sprite in (*self.distractors, self.target):
            (left, top), layer = sprite.layer(index, self.size)
            window = frame[top : top + layer.shape[0], left : left + layer.shape[1]]
            window[:] = window * (1 - layer[..., 3:]) + layer[..., :3] + 0.5
        frame = cv2.GaussianBlur(frame, (0, 0), self.blur) if self.blur > 0.3 else frame
        frame = cv2.convertScaleAbs(frame, alpha=self.gain(index))
        x, y = (17 * index) % (self.noise.shape[1] - width + 1), (29 * index) % (self.noise.shape[0] - height + 1)
        return cv2.add(frame, self.noise[y : y + height, x : x + width], dtype=cv2.CV_8U)


def make_scene(seed: int, size: tuple[int, int] = (640, 360), photos: Sequence[str] = PHOTOS) -> Scene:
    """A scene that follows from its arguments alone.

    Args:
        seed: of everything random.
        size: (width, height) of the frames in pixels, at least 160 x 120.
        photos: two or more names that `load_photo` knows; target and background come from different ones.

    Raises:
        SiamtrtError: a smaller size or fewer photos.
    """
    width, height = size
    if width < 160 or height < 120 or len(photos) < 2:
        raise SiamtrtError(
            "no scene can be made", received=f"{width}x{height} pixels, {len(photos)} photos",
            expected="160x120 pixels or more and two photos", fix="choose a larger size or add a photo",
        )
    rng = np.random.default_rng(seed)
    behind, front = rng.choice(len(photos), 2, replace=False)
    pan = height // 6
    background = _background(rng, load_photo(photos[behind]), (width + pan, height + pan))
    others = [front, *rng.integers(len(photos), size=_DISTRACTORS - 1)]
    sigma = rng.uniform(1, 4)
    noise = rng.standard_normal((height + 32, width + 32, 3), np.float32) * np.float32(sigma)
    return Scene(
        size, background, random_wave(rng, 0, pan, height / 400), random_wave(rng, 0, pan, height / 400),
        tuple(_sprite(rng, load_photo(photos[other]), size) for other in others),
        _sprite(rng, load_photo(photos[front]), size), random_wave(rng, 0.75, 1.15, 0.02),
        rng.uniform(0, 0.9), noise.round().astype(np.int16),
    )  # fmt: skip


def render_scene(
    seed: int, frames: int, size: tuple[int, int] = (640, 360), photos: Sequence[str] = PHOTOS
) -> Iterator[tuple[np.ndarray, BoxXywh]]:
    """Yield `frames` pairs of a (height, width, 3) uint8 BGR frame and the target's x, y, w, h in it."""
    scene = make_scene(seed, size, photos)
    for index in range(frames):
        yield scene.frame(index), scene.box(index)


def write_scene_video(
    path: Path, seed: int, frames: int, size: tuple[int, int] = (640, 360), fps: float = 30.0,
    photos: Sequence[str] = PHOTOS,
) -> Path:  # fmt: skip
    """Write a scene to the mp4 `path`, and its boxes beside it as `.txt` with one `x,y,w,h` line a frame.

    Returns:
        The path of the boxes.

    Raises:
        SiamtrtError: this OpenCV cannot write mp4, or the folder does not exist.
    """
    boxes_path = path.with_suffix(".txt")
    with staged_file(path) as video, staged_file(boxes_path) as boxes, contextlib.ExitStack() as stack:
        writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
        stack.callback(writer.release)
        if not writer.isOpened():
            raise SiamtrtError("cannot write the video", received=str(path), expected="a .mp4 that OpenCV can encode",
                               fix="name a .mp4 file, and install opencv-python from PyPI")  # fmt: skip
        lines = []
        for frame, box_xywh in render_scene(seed, frames, size, photos):
            writer.write(frame)
            lines.append(",".join(f"{value:g}" for value in box_xywh))
        boxes.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return boxes_path


def _background(rng: np.random.Generator, photo: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A random crop of a photo with the aspect of `size` (width, height), resized to it."""
    height, width = photo.shape[:2]
    fit = min(width / size[0], height / size[1]) * rng.uniform(0.6, 1.0)
    w, h = int(size[0] * fit), int(size[1] * fit)
    x, y = rng.integers(width - w + 1), rng.integers(height - h + 1)
    crop = cv2.resize(photo[y : y + h, x : x + w], size, interpolation=cv2.INTER_LINEAR)
    return _recoloured(rng, crop[:, :: rng.choice((-1, 1))])


def _sprite(rng: np.random.Generator, photo: np.ndarray, size: tuple[int, int]) -> Sprite:
    """A sprite whose sides are about 0.14 to 0.3 of the frame's height and that never leaves the frame."""
    aspect = math.exp(rng.uniform(-0.8, 0.8))
    side = size[1] * rng.uniform(0.14, 0.3)
    width, height = round(side * math.sqrt(aspect)), round(side / math.sqrt(aspect))
    patch = _recoloured(rng, _patch(rng, photo, (width, height))[..., rng.permutation(3)])
    padded = cv2.copyMakeBorder(patch, _PAD, _PAD, _PAD, _PAD, cv2.BORDER_REPLICATE)
    mask = cv2.copyMakeBorder(_mask(rng, width, height), _PAD, _PAD, _PAD, _PAD, cv2.BORDER_CONSTANT)
    alpha = cv2.GaussianBlur(mask, (0, 0), 1.0)[..., None]
    reach = math.hypot(width, height) / 2 * math.exp(_SCALE) + _PAD
    return Sprite(
        np.concatenate([padded * alpha, alpha], axis=2),
        random_wave(rng, min(reach, size[0] / 2), max(size[0] - reach, size[0] / 2), size[1] / 60),
        random_wave(rng, min(reach, size[1] / 2), max(size[1] - reach, size[1] / 2), size[1] / 60),
        random_wave(rng, -_SCALE, _SCALE, 0.015), random_wave(rng, -15, 15, 1.0),
    )  # fmt: skip


def _patch(rng: np.random.Generator, photo: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The most textured of four random cuts from a photo, resized to `size` (width, height)."""
    height, width = photo.shape[:2]
    cuts = []
    for _ in range(4):
        zoom = min(rng.uniform(0.6, 2.0), width / size[0], height / size[1])
        w, h = int(size[0] * zoom), int(size[1] * zoom)
        x, y = rng.integers(width - w + 1), rng.integers(height - h + 1)
        cuts.append(photo[y : y + h, x : x + w])
    return cv2.resize(max(cuts, key=lambda cut: cut.std()), size, interpolation=cv2.INTER_AREA)


def _recoloured(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Each channel scaled and shifted by a random amount, (h, w, 3) uint8."""
    gains, shifts = rng.uniform(0.7, 1.3, 3), rng.uniform(-25, 25, 3)
    return np.clip(picture * gains.astype(np.float32) + shifts.astype(np.float32), 0, 255).astype(np.uint8)


def _mask(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """(height, width) float32 in {0, 1}: an ellipse, a rounded rectangle or a polygon that reaches every side."""
    kind = rng.integers(3)
    if kind < 2:
        power = 2.0 if kind == 0 else 6.0
        x = np.abs(np.linspace(-1, 1, width, dtype=np.float32)) ** power
        y = np.abs(np.linspace(-1, 1, height, dtype=np.float32)) ** power
        return (x + y[:, None] <= 1).astype(np.float32)
    corners = int(rng.integers(5, 10))
    angles = (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) * (2 * math.pi / corners)
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1) * rng.uniform(0.7, 1.0, (corners, 1))
    points = (points - points.min(0)) / np.ptp(points, axis=0) * (width - 1, height - 1)
    return cv2.fillPoly(np.zeros((height, width), np.float32), [points.round().astype(np.int32)], 1.0)
