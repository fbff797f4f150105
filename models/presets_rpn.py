"""Trackers with a region proposal head: the network, its crop sizes, and the constants its authors published."""

from __future__ import annotations

import functools

from siamtrt.models.alexnet import AlexNet, GroupedAlexNet
from siamtrt.models.cir import CIResNet22
from siamtrt.models.crpn import CRPN
from siamtrt.models.mobilenetv2 import MobileNetV2
from siamtrt.models.nanotrack import NanoTrack
from siamtrt.models.network import SiameseNetwork
from siamtrt.models.preset import Names, Preset
from siamtrt.models.resnet import BasicBlock, Bottleneck, ResNet
from siamtrt.models.siammask import SiamMask
from siamtrt.models.siamrpn import DistractorAwareSiamRPN, SiamRPN
from siamtrt.models.siamrpn_small import SmallSiamRPN
from siamtrt.models.siamrpnpp import SiamRPNpp
from siamtrt.papers import paper_figure
from siamtrt.tracking import (
    AdaptiveSearch,
    AnchorDecoding,
    DistractorAware,
    LongTermSearch,
    LossDetection,
    MaskDecoding,
    PointDecoding,
    Preprocessing,
    Strategies,
    Tracking,
)

SIAMRPN = "SiamRPN (Li et al., CVPR 2018)"
SIAMRPNPP = "SiamRPN++ (Li et al., CVPR 2019)"
DASIAMRPN = "DaSiamRPN (Zhu et al., ECCV 2018)"
DASIAMRPN_NAMES = (
    ("featureExtract.", "backbone.features."),
    ("conv_cls1.", "rpn_head.template_cls_conv."), ("conv_cls2.", "rpn_head.search_cls_conv."),
    ("conv_r1.", "rpn_head.template_loc_conv."), ("conv_r2.", "rpn_head.search_loc_conv."),
    ("regress_adjust.", "rpn_head.loc_adjust."),
)  # fmt: skip
SIAMDW = "SiamDW (Zhang and Peng, CVPR 2019)"
SIAMDW_RPN_NAMES = (
    ("features.features.", "backbone."),
    ("connect_model.template_cls.", "rpn_head.template_cls_conv."),
    ("connect_model.template_reg.", "rpn_head.template_loc_conv."),
    ("connect_model.search_cls.", "rpn_head.search_cls_conv."),
    ("connect_model.search_reg.", "rpn_head.search_loc_conv."),
    ("connect_model.adjust.", "rpn_head.loc_adjust."),
)
SIAMMASK_NAMES = (
    ("features.features.", "backbone."), ("features.", "neck."), ("rpn_model.", "rpn_head."),
    ("mask_model.mask.", "mask_head."), ("refine_model.", "refine_head."),
)  # fmt: skip
NANOTRACK = "NanoTrack (HonglinChu/SiamTrackers)"
RATIOS = (0.33, 0.5, 1.0, 2.0, 3.0)


# Weights and thresholds from the training videos: docs/default_tracker.md.
SMALL_LOSS = LossDetection(0.1466, 0.1484, 0.05982, 12.54, 0.7213, uncertain=1.0, lost=-1.0, regained=0.25)
NANOTRACK_LOSS = {
    1: LossDetection(0.3938, 0.3889, 0.1623, 9.385, 0.838, uncertain=1.0, lost=-1.0, regained=0.25),
    2: LossDetection(0.2596, 1.089, 0.128, 35.59, 1.0026, uncertain=1.0, lost=-1.25, regained=0.25),
    3: LossDetection(0.1786, 0.8779, 0.1063, 11.33, 1.0067, uncertain=1.0, lost=-1.25, regained=0.25),
}


def _anchors(score_size: int) -> AnchorDecoding:
    return AnchorDecoding(score_size, stride=8, ratios=RATIOS, scales=(8.0,))


def _alex_dwxcorr() -> SiameseNetwork:
    return SiamRPNpp(AlexNet(), channels=(256,), hidden=(256,))


def _mobilev2() -> SiameseNetwork:
    return SiamRPNpp(MobileNetV2(1.4), channels=(44, 134, 448), hidden=(256, 256, 256))


def _resnet50() -> SiameseNetwork:
    channels = (512, 1024, 2048)
    return SiamRPNpp(ResNet(Bottleneck, (3, 4, 6, 3)), channels, hidden=(256, 256, 256), weighted=True)


def _resnet_basic(depths: tuple[int, int, int, int]) -> SiameseNetwork:
    widths = (128, 256, 512)
    return SiamRPNpp(ResNet(BasicBlock, depths), widths, hidden=widths, weighted=True)


def _siamrpn_alex(width: int = 1) -> SiameseNetwork:
    return SiamRPN(AlexNet(width), 256 * width)


def _dasiamrpn(name: str, width: int, tracking: Tracking, search: AdaptiveSearch | None = None) -> Preset:
    """DaSiamRPN as published: SiamRPN's network with a 271 px search crop; neither re-ranking nor long-term mode."""
    return Preset(
        f"dasiamrpn_{name}", DASIAMRPN, functools.partial(_siamrpn_alex, width), Preprocessing(127, 271), _anchors(19),
        tracking, verified="outputs of foolwood/DaSiamRPN on seeded weights", author_names=DASIAMRPN_NAMES,
        strategies=Strategies(search=search),
    )  # fmt: skip


def _dasiamrpn_lt() -> Preset:
    """DaSiamRPN as in the paper: distractor-aware re-ranking (sec. 3.3) and local-to-global search (sec. 3.4).

    The authors published neither. The weight of the distractors (0.5), the thresholds that enter and leave the lost
    state (0.8, 0.95) and a widest search of about 767 px are the paper's; three wider crops instead of its constant
    step are ours, because an engine's shape is fixed, and so are the distractors' threshold, overlap and number.
    """
    return Preset(
        "dasiamrpn_lt", DASIAMRPN, lambda: DistractorAwareSiamRPN(AlexNet()), Preprocessing(127, 271), _anchors(19),
        Tracking(0.04, 0.44, 0.45), verified="re-ranking against NumPy; seeded weights", author_names=DASIAMRPN_NAMES,
        strategies=Strategies(
            search=LongTermSearch((439, 607, 775), low=0.8, high=0.95),
            template=DistractorAware(
                "kernel2", "kernel0", threshold=0.5, nms_iou=0.3, top_k=20, limit=2, weight=0.5
            ),
        ),
    )  # fmt: skip


def _resnet50_lt() -> SiameseNetwork:
    channels = (512, 1024, 2048)
    return SiamRPNpp(ResNet(Bottleneck, (3, 4, 6, 3)), channels, hidden=(128, 256, 512), weighted=True)


def _crpn() -> Preset:
    """C-RPN; crops, anchors and constants are SiamRPN's, to whose strategies the paper refers (sec. 3.5)."""
    return Preset(
        "crpn_alex", "C-RPN (Fan and Ling, CVPR 2019)", lambda: CRPN(GroupedAlexNet((3, 4, 5))),
        Preprocessing(127, 255), _anchors(17), Tracking(0.16, 0.40, 0.30),
        paper_figure("C-RPN, on OTB"), verified="cascade against NumPy; seeded weights",
    )  # fmt: skip


def _siammask(
    name: str, tracking: Tracking, mask: MaskDecoding, refine: bool = True, names: Names = (),
    verified: str = "the same network as siammask_r50_l3",
) -> Preset:  # fmt: skip
    """SiamMask in pysot's configuration, or with the weights and constants of foolwood/SiamMask."""
    return Preset(
        f"siammask_{name}", "SiamMask (Wang et al., CVPR 2019)", lambda: SiamMask(refine), Preprocessing(127, 255),
        _anchors(25), tracking, verified=verified, author_names=names, strategies=Strategies(mask=mask),
    )  # fmt: skip


def _alex_tiny() -> SiameseNetwork:
    return SiamRPNpp(AlexNet(0.25), channels=(64,), hidden=(64,))


def _nanotrack(version: int, score_size: int, tracking: Tracking, verified: str) -> Preset:
    return Preset(
        f"nanotrack_v{version}", NANOTRACK, lambda: NanoTrack(version), Preprocessing(127, 255),
        PointDecoding(score_size, stride=16), tracking, verified=verified,
        strategies=Strategies(loss=NANOTRACK_LOSS[version]),
    )  # fmt: skip


def _alex_preset(name: str) -> Preset:
    return Preset(name, SIAMRPNPP, _alex_dwxcorr, Preprocessing(127, 287), _anchors(21), Tracking(0.16, 0.40, 0.30))


RPN_PRESETS = (
    _alex_preset("siamrpn_alex_dwxcorr"),
    _alex_preset("siamrpn_alex_dwxcorr_otb"),
    Preset(
        "siamrpn_mobilev2_l234_dwxcorr", SIAMRPNPP, _mobilev2, Preprocessing(127, 255), _anchors(25),
        Tracking(0.04, 0.40, 0.50), paper_figure("SiamRPN++, MobileNetV2"),
    ),
    Preset(
        "siamrpn_r50_l234_dwxcorr", SIAMRPNPP, _resnet50, Preprocessing(127, 255), _anchors(25),
        Tracking(0.05, 0.42, 0.38), paper_figure("SiamRPN++, ResNet-50"),
    ),
    Preset(  # thresholds of pysot's configuration of that name
        "siamrpn_r50_l234_dwxcorr_lt", SIAMRPNPP, _resnet50_lt, Preprocessing(127, 255), _anchors(25),
        Tracking(0.05, 0.28, 0.22), paper_figure("SiamRPN++, long-term"),
        verified="long-term step against NumPy; seeded weights",
        strategies=Strategies(search=LongTermSearch((831,), low=0.8, high=0.998)),
    ),
    *(
        Preset(
            f"siamrpn_r{layers}_l234_dwxcorr", SIAMRPNPP, functools.partial(_resnet_basic, depths),
            Preprocessing(127, 255), _anchors(25), Tracking(0.05, 0.42, 0.38), figure,
        )
        for layers, depths, figure in (
            (18, (2, 2, 2, 2), paper_figure("SiamRPN++, ResNet-18")),
            (34, (3, 4, 6, 3), None),
        )
    ),
    Preset(
        "siamrpn_alex", SIAMRPN, _siamrpn_alex, Preprocessing(127, 287), _anchors(21), Tracking(0.16, 0.40, 0.30),
        paper_figure("SiamRPN"),
    ),
    _dasiamrpn("vot", 1, Tracking(0.04, 0.44, 0.45)),
    _dasiamrpn("otb", 1, Tracking(0.22, 0.40, 0.30)),
    _dasiamrpn(
        "big", 2, Tracking(0.055, 0.42, 0.295), AdaptiveSearch((287,), area_share=0.004),
    ),
    _dasiamrpn_lt(),
    Preset(
        "siamdw_siamrpnres22", SIAMDW, lambda: SiamRPN(CIResNet22(), 512), Preprocessing(127, 255), _anchors(17),
        Tracking(0.841, 0.390, 0.714), verified="outputs of researchmm/SiamDW on seeded weights",
        author_names=SIAMDW_RPN_NAMES,
    ),
    _crpn(),
    _siammask("r50_l3", Tracking(0.10, 0.41, 0.32), MaskDecoding(0.15), verified="outputs of pysot on seeded weights"),
    _siammask("davis", Tracking(0.04, 0.40, 1.0), MaskDecoding(0.35, outside=-1.0), names=SIAMMASK_NAMES),
    _siammask("vot", Tracking(0.04, 0.42, 0.25), MaskDecoding(0.30, outside=-1.0), names=SIAMMASK_NAMES),
    _siammask(
        "base", Tracking(0.09, 0.39, 0.38), MaskDecoding(0.30, 63, outside=-1.0), refine=False, names=SIAMMASK_NAMES,
    ),
    _nanotrack(1, 16, Tracking(0.148, 0.462, 0.390), "trained weights load strictly"),
    _nanotrack(2, 16, Tracking(0.150, 0.490, 0.385), "boxes of the reference on 15 sequences"),
    _nanotrack(3, 15, Tracking(0.138, 0.455, 0.348), "boxes of the reference on 15 sequences"),
    Preset(  # the default tracker: a template of three quarters of the paper's, anchors likewise; a nearer search
        "siamrpn_mobilev2_small", SIAMRPNPP, SmallSiamRPN, Preprocessing(95, 159),
        AnchorDecoding(13, stride=8, ratios=RATIOS, scales=(6.0,)), Tracking(0.04, 0.40, 0.50),
        verified="trained here: docs/default_tracker.md", strategies=Strategies(loss=SMALL_LOSS),
    ),
    Preset(
        "siamrpn_alex_tiny", SIAMRPNPP, _alex_tiny, Preprocessing(127, 287), _anchors(21), Tracking(0.16, 0.40, 0.30),
        note="a quarter of AlexNet's width, to try things out on; not a tracker to deploy", verified="seeded weights",
    ),
)  # fmt: skip
