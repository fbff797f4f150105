"""One preset per tracker: the network, its crop sizes, and the constants its authors published."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from siamtrt.errors import SiamtrtError
from siamtrt.manifest import AnchorDecoding, Decoding, PaperFigure, PointDecoding, Preprocessing, Tracking
from siamtrt.models.alexnet import AlexNet
from siamtrt.models.mobilenetv2 import MobileNetV2
from siamtrt.models.nanotrack import NanoTrack
from siamtrt.models.resnet import BasicBlock, Bottleneck, ResNet
from siamtrt.models.siamrpn import SiamRPN
from siamtrt.models.siamrpnpp import SiamRPNpp


@dataclass(frozen=True)
class Preset:
    """What `export` must know of a tracker beyond its weights.

    `build` makes the untrained network; `verified` says against what the network was checked. `author_names`
    maps the beginnings of the authors' parameter names to ours, where those differ from pysot's.
    """

    name: str
    paper: str
    build: Callable[[], nn.Module]
    preprocessing: Preprocessing
    decoding: Decoding
    tracking: Tracking
    paper_figure: PaperFigure | None = None
    note: str | None = None
    verified: str = "outputs of pysot on seeded weights"
    author_names: tuple[tuple[str, str], ...] = ()


SIAMRPN = "SiamRPN (Li et al., CVPR 2018)"
SIAMRPNPP = "SiamRPN++ (Li et al., CVPR 2019)"
DASIAMRPN = "DaSiamRPN (Zhu et al., ECCV 2018)"
DASIAMRPN_NAMES = (
    ("featureExtract.", "backbone.features."),
    ("conv_cls1.", "rpn_head.template_cls_conv."), ("conv_cls2.", "rpn_head.search_cls_conv."),
    ("conv_r1.", "rpn_head.template_loc_conv."), ("conv_r2.", "rpn_head.search_loc_conv."),
    ("regress_adjust.", "rpn_head.loc_adjust."),
)  # fmt: skip
NANOTRACK = "NanoTrack (HonglinChu/SiamTrackers)"
RATIOS = (0.33, 0.5, 1.0, 2.0, 3.0)


def _anchors(score_size: int) -> AnchorDecoding:
    return AnchorDecoding(score_size, stride=8, ratios=RATIOS, scales=(8.0,))


def _alex_dwxcorr() -> nn.Module:
    return SiamRPNpp(AlexNet(), channels=(256,), hidden=(256,))


def _mobilev2() -> nn.Module:
    return SiamRPNpp(MobileNetV2(1.4), channels=(44, 134, 448), hidden=(256, 256, 256))


def _resnet50() -> nn.Module:
    channels = (512, 1024, 2048)
    return SiamRPNpp(ResNet(Bottleneck, (3, 4, 6, 3)), channels, hidden=(256, 256, 256), weighted=True)


def _resnet_basic(depths: tuple[int, int, int, int]) -> nn.Module:
    widths = (128, 256, 512)
    return SiamRPNpp(ResNet(BasicBlock, depths), widths, hidden=widths, weighted=True)


def _siamrpn_alex(width: int = 1) -> nn.Module:
    return SiamRPN(AlexNet(width), 256 * width)


def _dasiamrpn(name: str, width: int, tracking: Tracking, note: str | None = None) -> Preset:
    """DaSiamRPN as published: SiamRPN's network with a 271 px search crop. The long-term mode is not included."""
    return Preset(
        f"dasiamrpn_{name}", DASIAMRPN, functools.partial(_siamrpn_alex, width), Preprocessing(127, 271), _anchors(19),
        tracking, note=note, verified="outputs of foolwood/DaSiamRPN on seeded weights", author_names=DASIAMRPN_NAMES,
    )  # fmt: skip


def _placeholder() -> nn.Module:
    return SiamRPNpp(AlexNet(0.25), channels=(64,), hidden=(64,))


def _nanotrack(version: int, score_size: int, tracking: Tracking, verified: str) -> Preset:
    return Preset(
        f"nanotrack_v{version}", NANOTRACK, lambda: NanoTrack(version), Preprocessing(127, 255),
        PointDecoding(score_size, stride=16), tracking, verified=verified,
    )  # fmt: skip


def _alex_preset(name: str) -> Preset:
    return Preset(name, SIAMRPNPP, _alex_dwxcorr, Preprocessing(127, 287), _anchors(21), Tracking(0.16, 0.40, 0.30))


_ALL = (
    _alex_preset("siamrpn_alex_dwxcorr"),
    _alex_preset("siamrpn_alex_dwxcorr_otb"),
    Preset(
        "siamrpn_mobilev2_l234_dwxcorr", SIAMRPNPP, _mobilev2, Preprocessing(127, 255), _anchors(25),
        Tracking(0.04, 0.40, 0.50), PaperFigure(70.0, "NVIDIA Titan Xp", "SiamRPN++, sec. 4.4"),
    ),
    Preset(
        "siamrpn_r50_l234_dwxcorr", SIAMRPNPP, _resnet50, Preprocessing(127, 255), _anchors(25),
        Tracking(0.05, 0.42, 0.38), PaperFigure(35.0, "NVIDIA Titan Xp", "SiamRPN++, sec. 4.4"),
    ),
    *(
        Preset(
            f"siamrpn_r{layers}_l234_dwxcorr", SIAMRPNPP, functools.partial(_resnet_basic, depths),
            Preprocessing(127, 255), _anchors(25), Tracking(0.05, 0.42, 0.38), figure,
        )
        for layers, depths, figure in (
            (18, (2, 2, 2, 2), PaperFigure(70.0, "NVIDIA Titan Xp", "SiamRPN++, sec. 4.4")),
            (34, (3, 4, 6, 3), None),
        )
    ),
    Preset(
        "siamrpn_alex", SIAMRPN, _siamrpn_alex, Preprocessing(127, 287), _anchors(21), Tracking(0.16, 0.40, 0.30),
        PaperFigure(160.0, "NVIDIA GTX 1060", "SiamRPN, abstract and sec. 5.1"),
    ),
    _dasiamrpn("vot", 1, Tracking(0.04, 0.44, 0.45)),
    _dasiamrpn("otb", 1, Tracking(0.22, 0.40, 0.30)),
    _dasiamrpn(
        "big", 2, Tracking(0.055, 0.42, 0.295),
        note="always searches 271 px; the authors' code takes 287 px for targets below 0.4 % of the frame",
    ),
    _nanotrack(1, 16, Tracking(0.148, 0.462, 0.390), "trained weights load strictly"),
    _nanotrack(2, 16, Tracking(0.150, 0.490, 0.385), "boxes of the reference on 15 sequences"),
    _nanotrack(3, 15, Tracking(0.138, 0.455, 0.348), "boxes of the reference on 15 sequences"),
    Preset(
        "placeholder", SIAMRPNPP, _placeholder, Preprocessing(127, 287), _anchors(21), Tracking(0.16, 0.40, 0.30),
        note="trained for minutes on rendered scenes, to show the pipeline; not a tracker to deploy",
        verified="rendered scenes only",
    ),
)  # fmt: skip

PRESETS: dict[str, Preset] = {preset.name: preset for preset in _ALL}


def get_preset(name: str) -> Preset:
    """Look a preset up by name.

    Raises:
        SiamtrtError: no such preset.
    """
    if name not in PRESETS:
        raise SiamtrtError(
            "unknown model", received=repr(name), expected=f"one of {', '.join(PRESETS)}", fix="choose one with --model"
        )
    return PRESETS[name]
