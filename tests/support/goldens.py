"""The references' weights, inputs and outputs in `../shared/goldens`, as tests need them."""

from __future__ import annotations

import functools
import importlib.util
import json
from pathlib import Path

import cv2
import numpy as np
import torch

from siamtrt.models.presets import PRESETS
from siamtrt.runtime.decode import ProposalDecoder

# preset -> golden
NETWORKS = {
    "siamrpn_alex_dwxcorr": "siamrpn_alex_dwxcorr",
    "siamrpn_alex_dwxcorr_otb": "siamrpn_alex_dwxcorr_otb",
    "siamrpn_mobilev2_l234_dwxcorr": "siamrpn_mobilev2_l234_dwxcorr",
    "siamrpn_r50_l234_dwxcorr": "siamrpn_r50_l234_dwxcorr",
    "siamrpn_r18_l234_dwxcorr": "resnet18",
    "siamrpn_r34_l234_dwxcorr": "resnet34",
    "siamrpn_alex": "siamrpn_up_alex",
    "dasiamrpn_vot": "dasiamrpn_vot",
    "dasiamrpn_otb": "dasiamrpn_otb",
    "dasiamrpn_big": "dasiamrpn_big",
    "siamfc_alexnet": "siamfc_alexnet",
    "siamdw_siamfcres22": "siamdw_siamfcres22",
    "siamdw_siamfcincep22": "siamdw_siamfcincep22",
    "siamdw_siamfcnext22": "siamdw_siamfcnext22",
    "siamdw_siamrpnres22": "siamdw_siamrpnres22",
    "siammask_r50_l3": "siammask_r50_l3",
}
# The references' names for outputs of other graphs than search. SiamMask's base variant has a test of its own.
GRAPH_OUTPUTS = {"refine_r12_c12": ("refine", "mask")}
NOT_COMPUTED = {"template_size", "search_size", "mask_r12_c12"}
SEED = 7
LIMIT = 1e-4


class Golden:
    """One reference network: its parameters, crops and outputs.

    Args:
        folder: that of the goldens.
        preset: name of the preset that is to equal it.
    """

    def __init__(self, folder: Path, preset: str) -> None:
        name = NETWORKS[preset]
        spec = importlib.util.spec_from_file_location("golden_recipe", folder / "recipe.py")
        assert spec is not None
        assert spec.loader is not None
        recipe = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(recipe)
        self.name = name
        self.shapes = json.loads((folder / f"{name}.keys.json").read_text())["keys"]
        self.outputs = np.load(folder / f"{name}.seed{SEED}.npz")
        self._recipe = recipe

    def save(self, path: Path) -> Path:
        """The weights as a PyTorch checkpoint."""
        weights: dict[str, np.ndarray] = self._recipe.state_dict(self.shapes, SEED)
        torch.save({key: torch.from_numpy(np.asarray(value)) for key, value in weights.items()}, path)
        return path

    def crop(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """(N, 3, size, size) float32: "z", the template's, or "x", the search crop, N times the same."""
        return np.repeat(self._recipe.image(shape[-1], SEED + (name == "x")), shape[0], axis=0)

    def errors(self, found: dict[str, dict[str, np.ndarray]]) -> dict[str, float]:
        """How far each output of `{graph: {output: array}}` is off, by the reference's name; the worst of a batch."""
        errors = {}
        for name in self.outputs.files:
            if name not in NOT_COMPUTED:
                graph, output = GRAPH_OUTPUTS.get(name, ("search", name))
                errors[name] = max(off_by(one[None], self.outputs[name]) for one in found[graph][output])
        return errors


def off_by(actual: np.ndarray, expected: np.ndarray) -> float:
    """max |actual - expected| / max |expected|."""
    assert actual.shape == expected.shape
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


STEPS = {
    "siamrpn": "siamrpn_r50_l234_dwxcorr",
    "siamrpn_mobile": "siamrpn_mobilev2_l234_dwxcorr",
    "nanotrack": "nanotrack_v3",
}
# Anchor sides of the reference trackers in search-crop pixels, for ratios 0.33, 0.5, 1, 2, 3.
ANCHOR_SIDES = ((104, 32), (88, 40), (64, 64), (40, 80), (32, 96))


class Steps:
    """Single steps of a reference tracker. Its `loc` holds boxes already: the reference decodes in place."""

    def __init__(self, shared: Path, kind: str) -> None:
        self.kind = kind
        self.preset = PRESETS[STEPS[kind]]
        self.data = dict(np.load(shared / "goldens" / f"steps_{kind}.seed7.npz"))
        self._frames = bag_frames(shared)

    def frame(self, step: int) -> np.ndarray:
        return self._frames[self.data["frame"][step]]

    def decoder(self) -> ProposalDecoder:
        return ProposalDecoder(self.preset.decoding, self.preset.tracking, self.preset.preprocessing)

    def raw_loc(self, step: int) -> np.ndarray:
        """The network's output that decodes to the stored boxes, (1, 4A, S, S) float32."""
        boxes = self.data["loc"][step].astype(np.float64)
        size = boxes.shape[-1]
        offsets = np.arange(size) - size // 2
        if self.kind == "nanotrack":
            cx, cy, w, h = boxes
            px, py = 16 * offsets[None, :], 16 * offsets[:, None]
            raw = np.stack([px - cx + w / 2, py - cy + h / 2, cx + w / 2 - px, cy + h / 2 - py])
        else:
            cx, cy, w, h = boxes.reshape(4, 5, size, size)
            aw, ah = (np.array(side, float)[:, None, None] for side in zip(*ANCHOR_SIDES, strict=True))
            px, py = 8 * offsets[None, None, :], 8 * offsets[None, :, None]
            raw = np.stack([(cx - px) / aw, (cy - py) / ah, np.log(w / aw), np.log(h / ah)]).reshape(20, size, size)
        return raw[None].astype(np.float32)


@functools.cache
def load_steps(shared: Path, kind: str) -> Steps:
    return Steps(shared, kind)


@functools.cache
def bag_frames(shared: Path) -> list[np.ndarray]:
    """Every frame of the VOT `bag` video."""
    capture = cv2.VideoCapture(str(shared / "sequences" / "bag.avi"))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    assert len(frames) == 196
    return frames
