"""The papers' numbers beside the papers' texts."""

from __future__ import annotations

import math
import re

import pytest

from siamtrt.papers import SPEEDS, SURVEY, SURVEY_COLUMNS

# Where each rate stands: file, and what stands around the number there, white space aside.
STATED = {
    "SiamRPN": ("siamrpn", "Siamese-RPN is able to conduct at {} FPS"),
    "SiamRPN++, ResNet-50": ("siamrpnpp", "while still running at realtime speed({} FPS)"),
    "SiamRPN++, MobileNetV2": ("siamrpnpp", "while running at more than {} FPS"),
    "SiamRPN++, ResNet-18": ("siamrpnpp", "while running at more than {} FPS"),
    "SiamRPN++, long-term": ("siamrpnpp", "is still able to run at {} FPS"),
    "C-RPN, on OTB": ("c-rpn", "C-RPN runs at around {} fps"),
    "C-RPN, on TrackingNet": ("c-rpn", "at a speed of around {} fps"),
    "C-RPN, on LaSOT": ("c-rpn", "RPN runs at around {} fps on LaSOT"),
}
HARDWARE = {"siamrpn": "GTX 1060", "siamrpnpp": "Titan Xp", "c-rpn": "GTX 1080"}


@pytest.mark.parametrize("row", SPEEDS, ids=lambda row: row.tracker)
def test_a_published_rate_stands_in_its_paper(row, shared_dir):
    paper, sentence = STATED[row.tracker]
    text = (shared_dir / "papers" / f"{paper}.txt").read_text()
    wanted = re.escape(sentence.format(f"{row.fps:g}")).replace(r"\ ", r"\s+")
    assert re.search(wanted, text)
    assert HARDWARE[paper] in row.hardware
    assert re.search(rf"{HARDWARE[paper]}", text)
    assert row.at_least == ("more than" in sentence)


def test_the_survey_is_whole_and_as_printed(shared_dir):
    lines = (shared_dir / "papers" / "siamese-trackers-survey.txt").read_text().splitlines()
    printed = [line.split() for line in lines[1 : next(i for i, line in enumerate(lines) if "Note" in line)]]
    assert [[row.tracker, *row.results] for row in SURVEY] == printed
    headers = [re.split(r"[( )]+", part) for part in lines[0].split()[1:]]
    assert [column.replace("VOT20", "VOT").split() for column in SURVEY_COLUMNS] == [
        [part for part in header if part] for header in headers
    ]


@pytest.mark.parametrize(
    ("tracker", "column", "part", "value"),
    [("SINT++", "FPS", 0, 4.0), ("SiamRPN++", "OTB2015 AUC/Prec.", 1, 0.91), ("SiamRPN", "VOT2016 A/R/EAO", 2, 0.3441),
     ("DSiam", "VOT2015 A/R/EAO", 2, math.nan), ("RASNet", "VOT2015 A/R/EAO", 0, math.nan),
     ("SiamMask", "OTB2013 AUC/Prec.", 0, math.nan)],
)  # fmt: skip
def test_a_number_of_the_survey(tracker, column, part, value):
    row = next(row for row in SURVEY if row.tracker == tracker)
    assert row.value(column, part) == pytest.approx(value, nan_ok=True)


def test_every_row_of_the_survey_has_a_speed():
    assert len(SURVEY) == 19
    assert all(row.value("FPS") > 0 and len(row.results) == len(SURVEY_COLUMNS) for row in SURVEY)
