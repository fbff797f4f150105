"""How crops are cut and changed for training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from siamtrt.runtime.crop import mean_colour

Change = Callable[[np.random.Generator, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Appearance:
    """Chances and strengths of changes to crops, each drawn anew for template and search unless it says otherwise.

    Attributes:
        colour: largest gain of brightness, contrast and of each channel, as a share.
        grey: chance that both crops lose their colour.
        flip: chance that both crops are mirrored.
        blur: chance of a Gaussian or motion blur.
        small: chance that a crop is shrunk up to fourfold and enlarged again, as small targets are.
        noise: chance of sensor noise.
        cover: chance that a patch of the search crop is covered by one from elsewhere in it.
        fill: chance that what lies outside the image shows another image instead of the mean colour.
        turn: largest rotation of the template in degrees.
    """

    colour: float = 0.2
    grey: float = 0.1
    flip: float = 0.5
    blur: float = 0.2
    small: float = 0.2
    noise: float = 0.2
    cover: float = 0.1
    fill: float = 0.5
    turn: float = 5.0


def warped_crop(
    image: np.ndarray, center_xy: np.ndarray, sides_wh: np.ndarray, size: int, angle_deg: float = 0.0,
    behind: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """Cut a rectangle around a centre, turned and resized bilinearly to a square.

    Without rotation and with equal sides it is the tracker's `subwindow` but for its rounding to whole pixels.

    Args:
        image: (H, W, 3) uint8.
        center_xy: in pixels; a pixel's own centre is at whole numbers.
        sides_wh: of the rectangle, in pixels.
        size: side of the result.
        angle_deg: turns the content clockwise.
        behind: (size, size, 3) seen where the image ends; its mean colour where there is none.
    """
    zoom = np.asarray(sides_wh, float) / size
    cos, sin = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    turn = np.array([[cos, sin], [-sin, cos]]) * zoom[:, None]
    middle = (size - 1) / 2
    matrix = np.column_stack([turn, np.asarray(center_xy) - turn @ (middle, middle)])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    crop = cv2.warpAffine(image, matrix, (size, size), flags=flags, borderValue=mean_colour(image))
    if behind is None:
        return crop
    inside = cv2.warpAffine(
        np.full(image.shape[:2], 255, np.uint8), matrix, (size, size), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    )
    return np.where(inside[..., None] > 0, crop, behind)


def changed(rng: np.random.Generator, crop: np.ndarray, appearance: Appearance, grey: bool) -> np.ndarray:
    """A crop with other colours, blur and noise, (S, S, 3) uint8."""
    steps: tuple[tuple[float, Change], ...] = (
        (appearance.small, _small), (appearance.blur, _blurred), (appearance.noise, _noisy),
    )  # fmt: skip
    for chance, step in steps:
        if rng.random() < chance:
            crop = step(rng, crop)
    gains = 1 + rng.uniform(-1, 1, 3) * appearance.colour / 2
    contrast, light = 1 + rng.uniform(-1, 1) * appearance.colour, rng.uniform(-1, 1) * appearance.colour * 128
    levels = np.arange(256, dtype=np.float32)[:, None]
    table = np.clip((levels * gains - 128) * contrast + 128 + light, 0, 255).astype(np.uint8)
    crop = cv2.LUT(crop, table[:, None])
    return cv2.cvtColor(cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR) if grey else crop


def _blurred(rng: np.random.Generator, crop: np.ndarray) -> np.ndarray:
    if rng.random() < 0.5:
        return cv2.GaussianBlur(crop, (0, 0), rng.uniform(0.5, 2.0))
    length = int(rng.integers(3, 12))
    kernel = np.zeros((length, length), np.float32)
    angle, middle = rng.uniform(0, np.pi), (length - 1) / 2
    for step in np.linspace(-middle, middle, 2 * length):
        kernel[round(middle + step * np.sin(angle)), round(middle + step * np.cos(angle))] = 1
    return cv2.filter2D(crop, -1, kernel / kernel.sum())


def _small(rng: np.random.Generator, crop: np.ndarray) -> np.ndarray:
    size = crop.shape[0]
    less = max(8, round(size * rng.uniform(0.25, 0.8)))
    return cv2.resize(cv2.resize(crop, (less, less), interpolation=cv2.INTER_AREA), (size, size))


def _noisy(rng: np.random.Generator, crop: np.ndarray) -> np.ndarray:
    sigma = rng.uniform(2, 10)
    noise = rng.standard_normal(crop.shape, np.float32) * np.float32(sigma)
    return np.clip(crop + noise, 0, 255).astype(np.uint8)


def covered(rng: np.random.Generator, crop: np.ndarray, box_cxcywh: np.ndarray) -> np.ndarray:
    """A search crop in which a patch from elsewhere hides up to a half of the target's box, relative to its centre."""
    size = crop.shape[0]
    width, height = np.maximum(2, (box_cxcywh[2:] * rng.uniform(0.2, 0.7, 2)).astype(int))
    if max(width, height) >= size:
        return crop
    centre = box_cxcywh[:2] + size / 2 + rng.uniform(-0.5, 0.5, 2) * box_cxcywh[2:]
    x, y = (centre - (width / 2, height / 2)).astype(int)
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + width, size), min(y + height, size)
    if right <= left or bottom <= top:
        return crop
    from_x, from_y = rng.integers(size - width + 1), rng.integers(size - height + 1)
    crop = crop.copy()
    crop[top:bottom, left:right] = crop[from_y : from_y + bottom - top, from_x : from_x + right - left].copy()
    return crop
