"""What the papers publish: frame rates with their hardware, and the survey's table of accuracy and speed.

Numbers only, as printed. They were measured on other hardware, by other people, and mostly on other sequences than
ours, so they say what to expect, not which tracker is faster.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from siamtrt.manifest import PaperFigure

SURVEY_SOURCE = (
    "Survey of Siamese trackers, its table of results, ranked by publication; gathered from the original papers, "
    "not measured on one platform"
)
SURVEY_LEGEND = (
    "A: accuracy, R: robustness as the paper counts failures, EAO: expected average overlap, AUC: area under the "
    "success curve, Prec.: precision at 20 px"
)
NOTHING = "-"  # how the survey prints a missing result


@dataclass(frozen=True)
class PaperSpeed:
    """A frame rate that a paper states.

    Attributes:
        at_least: the paper says "more than".
        source: paper, section or table.
    """

    tracker: str
    fps: float
    hardware: str
    source: str
    at_least: bool = False


TITAN_XP, GTX_1060, GTX_1080 = "NVIDIA Titan Xp", "NVIDIA GTX 1060", "NVIDIA GTX 1080"
SPEEDS: tuple[PaperSpeed, ...] = (
    PaperSpeed("SiamRPN", 160, GTX_1060, "SiamRPN, abstract and sec. 5.2; hardware sec. 5.1"),
    PaperSpeed("SiamRPN++, ResNet-50", 35, TITAN_XP, "SiamRPN++, sec. 4.4"),
    PaperSpeed("SiamRPN++, MobileNetV2", 70, TITAN_XP, "SiamRPN++, sec. 4.4 and fig. 8", at_least=True),
    PaperSpeed("SiamRPN++, ResNet-18", 70, TITAN_XP, "SiamRPN++, sec. 4.4 and fig. 8", at_least=True),
    PaperSpeed("SiamRPN++, long-term", 21, TITAN_XP, "SiamRPN++, sec. 4.4, VOT2018-LT; hardware as for the others"),
    PaperSpeed("C-RPN, on OTB", 36, GTX_1080, "C-RPN, sec. 4.1; hardware sec. 4"),
    PaperSpeed("C-RPN, on TrackingNet", 32, GTX_1080, "C-RPN, sec. 4.4; hardware sec. 4"),
    PaperSpeed("C-RPN, on LaSOT", 23, GTX_1080, "C-RPN, sec. 4.3 and table 4; hardware sec. 4"),
)


def paper_speed(tracker: str) -> PaperSpeed:
    """The row of `SPEEDS` of that name."""
    return next(row for row in SPEEDS if row.tracker == tracker)


def paper_figure(tracker: str) -> PaperFigure:
    """The same, as a preset and its bundles carry it."""
    row = paper_speed(tracker)
    return PaperFigure(float(row.fps), row.hardware, row.source)


SURVEY_COLUMNS = (
    "VOT2015 A/R/EAO", "VOT2016 A/R/EAO", "VOT2017 A/R/EAO", "VOT2018 A/R/EAO", "OTB2013 AUC/Prec.",
    "OTB2015 AUC/Prec.", "OTB50 AUC/Prec.", "FPS",
)  # fmt: skip


@dataclass(frozen=True)
class SurveyRow:
    """A tracker of the survey.

    Attributes:
        results: a text for each of `SURVEY_COLUMNS`, as printed, `-` where there is none.
    """

    tracker: str
    results: tuple[str, ...]

    def value(self, column: str, part: int = 0) -> float:
        """A number of a column, the `part`-th between its slashes; NaN where there is none, of "<4" the 4."""
        parts = self.results[SURVEY_COLUMNS.index(column)].split("/")
        text = parts[part].lstrip("<") if part < len(parts) else NOTHING
        return math.nan if text == NOTHING else float(text)


# A line a tracker: its name, then a result for each of SURVEY_COLUMNS.
_TABLE = """
SINT - - - - 0.625/0.848 - - 4
SINT+ - - - - 0.655/0.882 - - 4
SiamFC 0.53/0.88/0.29 0.53/0.46/0.24 0.50/0.59/0.19 - 0.61/0.81 0.58/0.77 0.516/0.692 65
CFNet-conv1 - - - - 0.578/0.714 0.536/0.658 0.488/0.613 83
CFNet-conv2 - - - - 0.611/0.746 0.568/0.693 0.530/0.660 75
CFNet-conv5 - - - - 0.611/0.736 0.586/0.711 0.539/0.670 43
DSiam 0.5414 - - - 0.642/0.860 - - 45
DSiamM 0.5566 - - - 0.656/0.891 - - 25
RASNet -/-/0.327 - -/-/0.281 - 0.670/0.892 0.642/- - 83
SA-Siam 0.59/-/0.31 -/-/0.236 - 0.566/0.258/0.337 0.676/0.894 0.656/0.864 0.610/0.823 50
SiamRPN 0.58/1.13/0.358 0.56/0.26/0.3441 0.49/0.46/0.243 0.49/0.46/0.244 - 0.637/0.851 - 160
SINT++ - - - - - 0.574/0.768 0.624/0.839 <4
DaSiamRPN 0.63/-/0.446 0.61/-/0.411 -/-/0.326 0.569/0.337/0.326 - 0.658/0.88 - 160
Siam-BM - - -/-/0.335 - 0.686/0.898 0.662/0.864 - 48
C-RPN - 0.594/0.95/0.363 -/-/0.289 - 0.675/- 0.663/- - 36
SiamDW_CIResNet22_FC 0.57/-/0.31 0.54/0.38/0.30 0.50/0.49/0.23 - 0.67/0.88 0.64/0.85 - 70
SiamDW_CIResNet22_RPN 0.59/-/0.38 0.58/0.24/0.37 0.52/0.41/0.30 - 0.67/0.92 0.67/0.90 - 150
SiamMask - - - 0.602/0.288/0.347 - - - 35
SiamRPN++ - - - 0.600/0.234/0.414 - 0.696/0.910 - 35
"""


def _row(line: str) -> SurveyRow:
    tracker, *results = line.split()
    return SurveyRow(tracker, tuple(results))


SURVEY: tuple[SurveyRow, ...] = tuple(map(_row, _TABLE.strip().splitlines()))


def survey_figure(tracker: str) -> PaperFigure:
    """The frame rate that the survey gives a tracker, as a preset and its bundles carry it."""
    row = next(row for row in SURVEY if row.tracker == tracker)
    return PaperFigure(row.value("FPS"), "hardware not stated", "survey of Siamese trackers")
