"""How soon a tracker notices that its target is gone: cuts, scores, a few real cuts, the command."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from clips import clip
from toy import save_toy, toy_models

from siamtrt.benchmarks.cuts import FOREIGN_FRAMES, FRAMES_AFTER, FRAMES_BEFORE, RETURNS, Cut, choose_cuts
from siamtrt.benchmarks.loss import main, run_cut
from siamtrt.benchmarks.loss_report import as_table, picture_of
from siamtrt.benchmarks.loss_scores import FalseLosses, Measured, WatchedRun, absences_of, false_losses
from siamtrt.runtime.sequences import find_sequences
from siamtrt.runtime.watched import WatchedTracker

BOX = (10.0, 10.0, 20.0, 20.0)
LONG = FRAMES_BEFORE + FOREIGN_FRAMES + FRAMES_AFTER
STATUSES = {"L": "locked", "u": "uncertain", "x": "lost", "i": "invalid"}


def run(statuses, visible, on=None):
    """One letter a frame: status, whether the target is there (+), whether the box is on it (1)."""
    boxes = [BOX if flag == "1" else (200.0, 10.0, 20.0, 20.0) for flag in on or "1" * len(statuses)]
    truth = [BOX if flag == "+" else [np.nan] * 4 for flag in visible]
    return WatchedRun("run", tuple(STATUSES[letter] for letter in statuses), np.array(boxes), np.array(truth))


def test_a_disappearance_noticed_and_regained():
    (absence,) = absences_of(run("LLLuuxxxxLLL", "+++-----++++"))
    assert (absence.start, absence.stop, absence.lost_after, absence.locked_after) == (3, 8, 2, 1)
    assert (absence.noticed, absence.regained, absence.followed) == (True, True, True)
    assert absence.lost_share == pytest.approx(3 / 5)


@pytest.mark.parametrize(("late", "noticed"), [(9, True), (10, False)])
def test_lost_has_to_come_within_ten_frames(late, noticed):
    (absence,) = absences_of(run("LL" + "u" * late + "x" * (20 - late) + "L", "++" + "-" * 20 + "+"))
    assert absence.lost_after == late
    assert absence.noticed is noticed


@pytest.mark.parametrize(("late", "regained"), [(29, True), (30, False)])
def test_locked_has_to_come_within_thirty(late, regained):
    (absence,) = absences_of(run("LLxx" + "x" * late + "L" * 5, "++--" + "+" * (late + 5)))
    assert absence.locked_after == late
    assert absence.regained is regained


def test_locked_on_something_else_is_not_regained():
    (absence,) = absences_of(run("LLxxLLL", "++--+++", "1111000"))
    assert absence.locked_after is None
    (absence,) = absences_of(run("LLxxuuu", "++--+++"))
    assert absence.locked_after is None, "uncertain is not locked"


def test_several_disappearances_and_one_without_return():
    first, second = absences_of(run("LLxLxxLL-".replace("-", "x"), "++-+--++-"))
    assert (first.start, first.stop, first.locked_after) == (2, 3, 0)
    assert (second.start, second.stop, second.locked_after) == (4, 6, 0)
    missed, _ = absences_of(run("LLLxxxL", "++-+-++"))
    assert (missed.lost_after, missed.locked_after) == (None, None), "the next disappearance ends the search"


def test_false_losses_and_those_of_a_target_that_the_plain_tracker_has():
    lost = run("LLxxLxx", "+++++--", "1111111")
    assert false_losses([lost]) == FalseLosses(4, 2, 2)
    plain = run("LLLLLLL", "+++++--", "1110000").boxes_xywh
    assert false_losses([dataclasses.replace(lost, plain_xywh=plain)]) == FalseLosses(4, 2, 1)
    assert false_losses([lost, run("LLxxx", "++--+")]) == FalseLosses(4 + 2, 3, 3)


def numbered(name, count, shade):
    """Frames whose pixels tell their number, and boxes that do."""
    frames = tuple(np.full((6, 8 + shade, 3), number + shade, np.uint8) for number in range(count))
    boxes = np.array([(number, 0, 4, 4) for number in range(count)], float)
    return dataclasses.replace(clip(name, 1), pictures=frames, truth_xywh=boxes)


@pytest.mark.parametrize(("back", "first"), [("later", 70), ("where it was", 30)])
def test_a_cut_holds_the_frames_of_two_sequences(back, first):
    base, foreign = numbered("base", 110, 0), numbered("foreign", 60, 100)
    frames, truth = zip(*Cut(base, foreign, 30, 15, back).frames(), strict=True)
    values = [int(frame[0, 0, 0]) for frame in frames]
    assert values == [*range(30), *range(115, 155), *range(first, 110)]
    assert {frame.shape for frame in frames} == {(6, 8, 3)}, "the foreign frames have the other's size"
    assert np.isnan(truth[30:70]).all()
    known = [row[0] for row in (*truth[:30], *truth[70:])]
    assert known == [*range(30), *range(first, 110)]


def test_cuts_follow_from_the_seed_and_leave_room():
    absent = numbered("absent", 150, 0)
    absent.truth_xywh[30] = np.nan
    sequences = [numbered("a", 150, 0), numbered("b", 120, 0), numbered("short", LONG - 1, 0), absent]
    cuts = choose_cuts(sequences, 300, seed=4)
    assert [cut.name for cut in cuts] == [cut.name for cut in choose_cuts(sequences[::-1], 300, seed=4)]
    assert [cut.name for cut in cuts] != [cut.name for cut in choose_cuts(sequences, 300, seed=5)]
    names = [cut.base.name for cut in cuts]
    assert {name: names.count(name) for name in set(names)} == {"a": 100, "b": 100, "absent": 100}
    for cut in cuts:
        assert cut.base.name != cut.foreign.name
        assert cut.start >= FRAMES_BEFORE
        after = cut.base.truth_xywh[cut.start - 1 : cut.start + FOREIGN_FRAMES + FRAMES_AFTER]
        assert len(after) == 1 + FOREIGN_FRAMES + FRAMES_AFTER
        assert np.isfinite(after).all()
        assert 0 <= cut.foreign_start <= len(cut.foreign.truth_xywh) - FOREIGN_FRAMES


def measured():
    gap, fine = run("LLLxxxLL", "+++---++"), run("LLuxL", "+++++", "11011")
    fine = dataclasses.replace(fine, plain_xywh=run("LLLLL", "+++++", "11000").boxes_xywh)
    cuts = {back: (dataclasses.replace(gap, name="a to 3, b from 0"),) for back in RETURNS}
    times = np.stack([np.arange(1.0, 12.0), np.full(11, 2.0)], axis=1)
    return Measured("toy", (dataclasses.replace(gap, name="gap"), fine), cuts, (3,), times)


def test_the_table_says_what_was_measured():
    table = as_table(measured())
    assert "| gap | 1 of 1 | 1 of 1 | 1 of 1 | 100 % |" in table
    assert "| 1 cuts, the target later | 1 of 1 | 1 of 1 | 1 of 1 | 100 % |" in table
    assert "LOST in 1 of 4 frames with the target, 25.0 %, of the 1 sequences" in table
    assert "sequences that always have it; 0, 0.0 %, where the plain tracker has it." in table
    assert "Success AUC 0.857 watched, 0.667 not;" in table
    assert "| a to 3, b from 0, the target where it was | 3 | yes | 0 | 0 |" in table


def test_times_are_of_frames_in_which_the_target_was_lost_before():
    lost = measured()
    assert lost.times_ratio(True) == pytest.approx(np.median([4, 5, 6, 11]) / 2)
    never = dataclasses.replace(lost, sequences=(run("LLLLLL", "++++++"), run("LLLLLLL", "+++++++")))
    assert np.isnan(never.times_ratio(True))


def test_a_disappearance_that_the_cut_did_not_make_is_not_its():
    cut = run("LxLLLxxLL", "+-+++--++")
    found = dataclasses.replace(measured(), cuts={"later": (cut,)}, cut_starts=(5,)).cut_absences["later"]
    assert [absence.start for absence in found] == [5]


def test_the_picture_has_every_run():
    pytest.importorskip("matplotlib", reason="needs the report extra")
    picture = cv2.imdecode(np.frombuffer(picture_of(measured()), np.uint8), cv2.IMREAD_COLOR)
    colours = {tuple(pixel) for pixel in picture.reshape(-1, 3).tolist()}
    for shown in ("#4c9f70", "#c0504d", "#e0b040", "#202020"):
        assert tuple(int(shown[at : at + 2], 16) for at in (5, 3, 1)) in colours


def test_real_cuts_are_noticed_and_the_targets_found_again(shared_dir):
    """A cut in either variant, of short sequences, with the tracker in the package."""
    chosen = {s.name: s for s in find_sequences(shared_dir / "sequences") if s.name in ("Crossing", "Man")}
    cv2.setNumThreads(1)
    runs = []
    with WatchedTracker.load(backend="onnxruntime", threads=1) as tracker:
        for base, foreign, back in (("Crossing", "Man", "later"), ("Man", "Crossing", "where it was")):
            runs.append(run_cut(tracker, Cut(chosen[base], chosen[foreign], 40, 10, back)))
    absences = [absence for run in runs for absence in absences_of(run)]
    assert len(absences) == 2
    assert all(absence.noticed for absence in absences), absences
    assert all(absence.regained for absence in absences), absences
    assert false_losses(runs).lost < 15, "of 200 frames with the target"


def write_sequence(folder: Path, frames, boxes):
    (folder / "img").mkdir(parents=True)
    for number, frame in enumerate(frames, start=1):
        cv2.imwrite(str(folder / "img" / f"{number:04d}.png"), frame)
    np.savetxt(folder / "groundtruth_rect.txt", boxes, "%g", ",")


def test_the_command(tmp_path):
    pytest.importorskip("matplotlib", reason="needs the report extra")
    bundle = save_toy(toy_models(), tmp_path / "toy")
    for name, seed in (("one", 1), ("two", 2)):
        source = clip(name, LONG + 1, seed)
        write_sequence(tmp_path / "data" / name, source.pictures, source.truth_xywh)
    arguments = [str(bundle), "--dataset", str(tmp_path / "data"), "--cuts", "1", "-o", str(tmp_path / "loss")]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "loss.md").read_text().strip() in result.output
    assert "| 1 cuts, the target later | 0 of 1 | " in result.output, "this tracker is not watched"
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
