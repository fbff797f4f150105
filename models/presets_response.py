"""Trackers that read a response map or compare candidates, with the constants their authors published."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

from torch import nn

from siamtrt.models.alexnet import GroupedAlexNet
from siamtrt.models.cfnet import CFNet, CFNetBackbone
from siamtrt.models.cir import CIResInception22, CIResNet22, CIResNeXt22
from siamtrt.models.dsiam import DSiam
from siamtrt.models.preset import Names, Preset
from siamtrt.models.rasnet import RASNet
from siamtrt.models.sasiam import SASiam
from siamtrt.models.siambm import SiamBM
from siamtrt.models.siamfc import SiamFC
from siamtrt.models.sint import SINT
from siamtrt.papers import survey_figure
from siamtrt.tracking import (
    BlendedTemplate,
    Preprocessing,
    ResponseDecoding,
    ResponseTracking,
    SamplingDecoding,
    SamplingTracking,
    SpatialMask,
    Strategies,
    TransformUpdate,
)

SIAMFC = "SiamFC (Bertinetto et al., ECCVW 2016)"
SIAMDW = "SiamDW (Zhang and Peng, CVPR 2019)"
SEEDED = "seeded weights"
SIAMFC_CONSTANTS = ResponseTracking(scale_penalty=0.9745, window_influence=0.176, scale_lr=0.59)  # siamfc-pytorch


def _scales(step: float, count: int = 3) -> tuple[float, ...]:
    """`count` scales around 1, each `step` times the one before."""
    return tuple(step ** (index - count // 2) for index in range(count))


def _siamfc() -> SiamFC:
    return SiamFC(GroupedAlexNet(), scale=0.001)


def _siamfc_preset(name: str, scales: tuple[float, ...], scale_lr: float) -> Preset:
    """Three scales as siamfc-pytorch (and the paper's SiamFC-3s), or five as the paper's SiamFC; RGB as the former."""
    return Preset(
        name, SIAMFC, _siamfc, Preprocessing(127, 255, channel_order="rgb"), ResponseDecoding(17, 8, scales),
        dataclasses.replace(SIAMFC_CONSTANTS, scale_lr=scale_lr),
        verified="outputs of siamfc-pytorch on seeded weights",
    )  # fmt: skip


def _siamdw(
    name: str, backbone: Callable[[], nn.Module], names: Names, step: float, constants: ResponseTracking,
    verified: str = "outputs of researchmm/SiamDW on seeded weights",
) -> Preset:  # fmt: skip
    """SiamDW in SiamFC's form, with its authors' constants for VOT2017, and for 22W their code's defaults."""
    return Preset(
        f"siamdw_siamfc{name}", SIAMDW, lambda: SiamFC(backbone(), scale=0.1), Preprocessing(127, 255),
        ResponseDecoding(17, 8, _scales(step)), constants,
        verified=verified, author_names=names,
    )  # fmt: skip


SIAMDW_NAMES = (("features.features.", "backbone."),)
NEXT_NAMES = (
    ("features.features.conv0.", "backbone.conv1."), ("features.features.bn0.", "backbone.bn1."), *SIAMDW_NAMES,
)  # fmt: skip


def _sint(name: str, paper: str) -> Preset:
    """Candidates as the paper places them: three sizes on ten rings around the last position."""
    decoding = SamplingDecoding(radial=10, angular=10, scales=(0.5**0.5, 1.0, 2**0.5), radius_share=30 / 512)
    return Preset(
        name, paper, lambda: SINT(decoding.boxes), Preprocessing(255, 255, exemplar_size=127), decoding,
        SamplingTracking(), verified=f"pooling and matching against NumPy; {SEEDED}",
    )  # fmt: skip


def _cfnet(depth: int, side: int, step: float, constants: ResponseTracking, template_lr: float) -> Preset:
    """CFNet on one to five convolutions, with the constants of its authors' scripts; the template is averaged."""
    return Preset(
        f"cfnet_conv{depth}", "CFNet (Valmadre et al., CVPR 2017)",
        lambda: CFNet(CFNetBackbone(depth), side, template_lr=template_lr), Preprocessing(255, 255, exemplar_size=127),
        ResponseDecoding(33, 4, _scales(step), upsampling=8), constants, survey_figure(f"CFNet-conv{depth}"),
        verified=f"correlation filter against a NumPy solve; {SEEDED}",
        strategies=Strategies(template=TransformUpdate()),
    )  # fmt: skip


def _dsiam() -> Preset:
    """DSiam on the fourth and fifth convolution, with the constants of its authors' code."""
    return Preset(
        "dsiam", "DSiam (Guo et al., ICCV 2017)", lambda: DSiam(GroupedAlexNet((4, 5))), Preprocessing(127, 255),
        ResponseDecoding(17, 8, _scales(1.0375)), SIAMFC_CONSTANTS, survey_figure("DSiamM"),
        verified=f"transformations against a NumPy solve; {SEEDED}",
        strategies=Strategies(template=TransformUpdate()),
    )  # fmt: skip


def _rasnet() -> Preset:
    """RASNet; its authors published no constants: these are siamfc-pytorch's."""
    return Preset(
        "rasnet", "RASNet (Wang et al., CVPR 2018)", lambda: RASNet(GroupedAlexNet()), Preprocessing(127, 255),
        ResponseDecoding(17, 8, _scales(1.0375)), SIAMFC_CONSTANTS, survey_figure("RASNet"),
        verified=f"attention against NumPy; {SEEDED}",
    )  # fmt: skip


def _sa_siam() -> Preset:
    """SA-Siam with the constants of its authors' code; the template crop is as wide as the search crop."""
    return Preset(
        "sa_siam", "SA-Siam (He et al., CVPR 2018)", SASiam, Preprocessing(255, 255, exemplar_size=127),
        ResponseDecoding(17, 8, _scales(1.0375)), SIAMFC_CONSTANTS, survey_figure("SA-Siam"),
        verified=f"attention and fusion against NumPy; {SEEDED}",
    )  # fmt: skip


def _siam_bm() -> Preset:
    """Siam-BM: three scales and two turns of 22.5 degrees in one batch.

    The turns and the rates of the template's update are the paper's, as others report them; that a turn is penalised
    as a change of scale is our choice.
    """
    angle = math.pi / 8
    return Preset(
        "siam_bm", "Siam-BM (He et al., ECCVW 2018)", SiamBM, Preprocessing(255, 255, exemplar_size=127),
        ResponseDecoding(17, 8, _scales(1.0375), angles_rad=(-angle, angle)),
        dataclasses.replace(SIAMFC_CONSTANTS, angle_penalty=0.9745), survey_figure("Siam-BM"),
        verified=f"fusion and mask against NumPy; {SEEDED}",
        strategies=Strategies(template=BlendedTemplate(0.5, 0.006), spatial_mask=SpatialMask(1.5, side=6)),
    )  # fmt: skip


RESPONSE_PRESETS = (
    _siamfc_preset("siamfc_alexnet", _scales(1.0375), scale_lr=0.59),
    _siamfc_preset("siamfc_alexnet_5s", _scales(1.025, 5), scale_lr=0.35),
    _siamdw("res22", CIResNet22, SIAMDW_NAMES, 1.1466, ResponseTracking(0.9994, 0.3242, 0.2061)),
    _siamdw(
        "res22w", functools.partial(CIResNet22, widening=2), SIAMDW_NAMES, 1.0375,
        ResponseTracking(0.9745, 0.350, 0.590),
        verified=f"backbone beside researchmm/SiamDW's, once by hand; {SEEDED}",
    ),
    _siamdw("incep22", CIResInception22, SIAMDW_NAMES, 1.1679, ResponseTracking(0.9285, 0.2566, 0.6782)),
    _siamdw("next22", CIResNeXt22, NEXT_NAMES, 1.1531, ResponseTracking(0.9489, 0.2581, 0.5706)),
    _cfnet(1, 62, 1.0355, ResponseTracking(0.9825, 0.2375, 0.7), template_lr=0.0058),
    _cfnet(2, 57, 1.0575, ResponseTracking(0.978, 0.2625, 0.52), template_lr=0.005),
    _cfnet(5, 49, 1.04, ResponseTracking(0.97, 0.25, 0.59), template_lr=0.01),
    _dsiam(),
    _rasnet(),
    _sa_siam(),
    _siam_bm(),
    _sint("sint", "SINT (Tao et al., CVPR 2016)"),
    _sint("sintpp", "SINT++ (Wang et al., CVPR 2018)"),
)
