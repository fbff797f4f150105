"""The tracking loop: whatever its tracker, its source, its listeners and its commanders do, it goes on."""

from __future__ import annotations

import threading
import time

import cv2
import numpy as np
import pytest
from service_loops import BOX, SIZE, Driven, HandFeed, QuickTracker, Told, driven, frame_of
from service_updates import wait_for

from siamtrt.boxes import iou
from siamtrt.errors import BoxError, BundleError, SourceError
from siamtrt.runtime.live import Captured
from siamtrt.runtime.tracker import Tracker
from siamtrt.service.commands import CommandError
from siamtrt.service.loop import END_S

WIDE = (128, 96)


def moved(box, x):
    return (box[0] + x, *box[1:])


def asked(run, future):
    """The answer to a command, which takes a frame; that frame's result."""
    update = run.step()
    return future.result(5), update


def test_frames_without_a_target_are_idle():
    with driven() as run:
        update = run.step()
    assert (update.status, update.box_xywh, update.score, update.times) == ("idle", None, None, None)
    assert (update.number, update.frame_size) == (0, SIZE)
    assert abs(update.time_s - time.time()) < 5
    assert 0 <= update.latency_ms < 5e3


def test_a_target_is_taken_from_the_next_frame():
    with driven(target=BOX) as run:
        update = run.step()
    assert update.status == "locked"
    assert update.box_xywh == moved(BOX, 1)
    assert update.score == 0.75
    assert run.tracker.frames[0] is run.tracker.frames[1]


def test_a_command_before_the_first_frame_waits_for_it():
    with driven() as run:
        future = run.loop.track(BOX)
        assert not wait_for(future.done, 0.1)
        assert asked(run, future)[0] == BOX


def test_a_command_without_frames_is_answered():
    with driven() as run:
        future = run.loop.track(BOX, patience_s=0.05)
        with pytest.raises(CommandError, match=r"no frame .* none within 0\.05 s"):
            future.result(5)


def test_shares_of_the_frame():
    with driven() as run:
        box, _ = asked(run, run.loop.track([0.25, 0.5, 0.5, 0.25], "share"))
    assert box == (16.0, 24.0, 32.0, 12.0)


@pytest.mark.parametrize("unit", ["pixels", "share"])
@pytest.mark.parametrize(
    "box", [(900, 900, 5, 5), (1, 2, 3), "box", None, (np.nan, 0, 5, 5), (0, 0, 0, 0), ((1, 2), (3, 4)), [{}] * 4],
    ids=["outside", "three", "text", "none", "nan", "empty", "nested", "objects"],
)  # fmt: skip
def test_a_refused_target_leaves_the_earlier_one(box, unit):
    with driven(target=BOX) as run:
        run.step()
        future = run.loop.track(box, unit)
        assert run.step().box_xywh == moved(BOX, 2)
        with pytest.raises(BoxError):
            future.result(5)


def test_a_dropped_target_is_gone():
    with driven(target=BOX) as run:
        run.step()
        future = run.loop.drop()
        assert run.step().status == "idle"
        future.result(5)
        asked(run, run.loop.track(BOX))
        assert run.step().box_xywh == moved(BOX, 2)


def test_frames_of_another_size_show_the_same_scene():
    with driven(target=BOX) as run:
        run.step()
        update = run.step(frame_of(WIDE, 9))
        assert update.frame_size == WIDE
        assert update.box_xywh == tuple(2 * value for value in moved(BOX, 2))
        assert run.step(frame_of(SIZE)).box_xywh == moved(BOX, 3)
    assert all(frame.shape == (48, 64, 3) for frame in run.tracker.frames)
    assert run.counts() == {"frame_size_changed": 2}
    assert run.faults.seen()[0].detail == "128x96 to 64x48"


def test_a_target_from_a_frame_of_the_new_size():
    with driven(target=BOX) as run:
        run.step()
        future = run.loop.track((100, 50, 20, 20))
        assert run.step(frame_of(WIDE)).box_xywh == (101, 50, 20, 20)
        assert future.result(5) == (100, 50, 20, 20)
    assert run.tracker.frames[-1].shape == (96, 128, 3)


@pytest.mark.parametrize(
    "frame", [None, "text", np.zeros((4, 4)), np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4, 3))],
    ids=["none", "text", "grey", "empty", "floats"],
)  # fmt: skip
def test_a_frame_that_is_none_is_counted(frame):
    with driven(target=BOX) as run:
        run.feed.put(frame)
        assert run.step().number == 1
    assert run.counts() == {"frame_unusable": 1}


def test_commands_do_not_wait_for_a_camera_that_gives_no_picture():
    with driven() as run:
        run.feed.newest = lambda timeout_s: Captured(np.zeros((48, 64), np.uint8), 0, time.monotonic())
        assert wait_for(lambda: run.counts().get("frame_unusable", 0) > 2)
        run.loop.drop().result(5)


def test_a_gap_is_told_and_counted():
    with driven() as run:
        assert run.step(gap_s=2.5).gap_s == 2.5
        assert run.step().gap_s == 0
    assert run.counts() == {"gap": 1}


def test_a_tracker_that_fails_is_asked_again():
    with driven(target=BOX) as run:
        run.step()
        run.tracker.failing = RuntimeError("the driver went away")
        update = run.step(frame_of(WIDE))
        assert (update.status, update.score, update.times) == ("invalid", 0.0, None)
        assert update.box_xywh == tuple(2 * value for value in moved(BOX, 1))
        run.tracker.failing = None
        assert run.step().box_xywh == moved(BOX, 2)
    assert run.counts() == {"tracker_failed": 1, "frame_size_changed": 2}


@pytest.mark.parametrize("size", [SIZE, WIDE], ids=["same", "other"])
def test_a_rotated_box_is_in_the_frames_own_pixels(size):
    scale = size[0] / SIZE[0]
    with driven(target=BOX) as run:
        assert run.step().polygon_xy is None
        run.tracker.polygon = ((1.0, 2.0), (3.0, 4.5), (0.5, 5.0), (-1.0, 3.0))
        update = run.step(frame_of(size))
    assert update.polygon_xy == tuple((scale * x, scale * y) for x, y in run.tracker.polygon)


def test_a_broken_tracker_can_be_replaced():
    """Though it cannot say where its target is any more."""
    new = QuickTracker("new")
    with driven(target=BOX) as run:
        run.step()
        run.tracker.failing = RuntimeError("the driver went away")
        run.step()
        future = run.loop.switch(lambda: new)
        assert run.step().box_xywh == moved(BOX, 2)
        future.result(5)
    assert new.closed == run.tracker.closed == 1


def test_a_listener_that_fails_is_not_the_others_business():
    failing = Told(OSError("no"))
    with driven() as run:
        run.loop.listen(failing)
        last = Told()
        run.loop.listen(last)
        for number in range(3):
            assert run.step().number == number
            assert last.next().number == number
    assert [(fault.kind, fault.of, fault.count) for fault in run.faults.seen()] == [("listener_failed", "told", 5)]
    assert last.closed == failing.closed == run.told.closed == run.feed.closed == run.tracker.closed == 1


def test_a_switch_keeps_the_target_at_its_place():
    new = QuickTracker("new")
    with driven(target=BOX) as run:
        run.step()
        future = run.loop.switch(lambda: new)
        assert run.step(frame_of(WIDE)).box_xywh == (25, 24, 40, 32)
        future.result(5)
        assert run.loop.snapshot().model == "new"
        assert run.tracker.closed == 1
        assert new.closed == 0
        assert run.step(frame_of(WIDE)).box_xywh == (26, 24, 40, 32)
    assert new.closed == 1


def test_a_switch_without_a_target():
    new = QuickTracker("new")
    with driven() as run:
        future = run.loop.switch(lambda: new)
        assert run.step().status == "idle"
        future.result(5)
    assert new.frames == []


def test_a_bundle_that_does_not_open_changes_nothing():
    def missing():
        raise BundleError("not a bundle", received="nothing", expected="one", fix="export")

    with driven(target=BOX) as run:
        run.step()
        with pytest.raises(BundleError):
            run.loop.switch(missing)
        assert run.step().box_xywh == moved(BOX, 2)
        future = run.loop.switch(lambda: QuickTracker("another"))
        run.step()
        future.result(5)


def test_a_tracker_that_has_no_use_for_the_target_changes_nothing():
    new = QuickTracker("new")
    new.failing = BoxError("no", received="this", expected="that", fix="it")
    with driven(target=BOX) as run:
        run.step()
        future = run.loop.switch(lambda: new)
        assert run.step().status == "locked"
        with pytest.raises(BoxError):
            future.result(5)
        assert wait_for(lambda: new.closed)
        assert run.step().status == "locked"
    assert (new.closed, run.tracker.closed) == (1, 1)


def test_a_lost_target_is_taken_over_by_nobody():
    """What the new tracker would take for it is whatever is in its last place."""
    new = QuickTracker("new")
    with driven(target=BOX) as run:
        run.step()
        run.tracker.status = "lost"
        assert run.step().status == "lost"
        future = run.loop.switch(lambda: new)
        assert run.step().status == "lost"
        with pytest.raises(CommandError, match="a target that is lost"):
            future.result(5)
        assert wait_for(lambda: new.closed)
        assert new.frames == []
        run.tracker.status = "locked"
        future = run.loop.switch(lambda: QuickTracker("another"))
        assert run.step().status == "locked"
        future.result(5)
        assert run.loop.snapshot().model == "another"


def test_it_says_that_it_lives_with_and_without_frames():
    run, lives = Driven(), []
    thread = threading.Thread(target=run.loop.run, args=[lambda: lives.append(run.feed.given)])
    thread.start()
    assert wait_for(lambda: lives.count(0) > 2)
    for frame in (frame_of(), np.zeros((48, 64), np.uint8)):
        run.feed.put(frame)
    assert wait_for(lambda: {1, 2} <= {*lives})
    run.loop.stop()
    thread.join(5)
    assert not thread.is_alive()


def test_an_old_tracker_that_does_not_close_is_left_behind():
    new = QuickTracker("new")
    with driven(target=BOX) as run:
        run.tracker.close = lambda: 1 / 0
        run.step()
        future = run.loop.switch(lambda: new)
        run.step()
        future.result(5)
        assert run.step().status == "locked"
        assert new.closed == 0
    assert run.counts() == {"tracker_failed": 1}


def test_a_tracker_that_does_not_close_at_the_end():
    with driven() as run:
        run.tracker.close = lambda: 1 / 0
        run.step()
    assert run.counts() == {"tracker_failed": 1}


def test_one_switch_at_a_time_and_frames_go_on_meanwhile():
    opening, may_open = threading.Event(), threading.Event()

    def slow():
        opening.set()
        assert may_open.wait(5)
        return QuickTracker("new")

    with driven(target=BOX) as run:
        run.step()
        thread = threading.Thread(target=lambda: run.loop.switch(slow))
        thread.start()
        assert opening.wait(5)
        with pytest.raises(CommandError, match="another switch is under way"):
            run.loop.switch(QuickTracker)
        assert [run.step().box_xywh[0] for _ in range(3)] == [12, 13, 14]
        may_open.set()
        thread.join(5)
        run.step()
        assert wait_for(lambda: run.loop.snapshot().model == "new")


def test_a_switch_after_the_end_closes_the_new_tracker():
    new = QuickTracker("new")
    with driven() as run:
        run.loop.stop()
        run.thread.join(5)
        with pytest.raises(CommandError, match="has ended"):
            run.loop.switch(lambda: new)
    assert new.closed == 1


def test_no_number_of_commands_keeps_the_loop_from_its_frames():
    """Each takes a frame of its own."""
    with driven(target=BOX) as run:
        futures = [run.loop.track(BOX) for _ in range(10)]
        for count in range(1, 10):  # the first frame's is the config's
            run.step()
            assert sum(future.done() for future in futures) == count - 1


def test_the_end_of_the_source_ends_it():
    with driven() as run:
        run.step()
        run.feed.end()
        run.thread.join(5)
        assert not run.thread.is_alive()
    assert run.told.closed == run.feed.closed == run.tracker.closed == 1


def test_a_source_that_fails_says_so():
    run = Driven()
    run.feed.end(SourceError("unreadable", received="this", expected="that", fix="it"))
    with pytest.raises(SourceError, match="unreadable"):
        run.loop.run()
    assert run.told.closed == run.feed.closed == run.tracker.closed == 1


def test_whatever_hangs_at_the_end_is_not_waited_for():
    """Three listeners and a device, in half a second altogether."""
    feed = HandFeed()
    feed.hanging = 5.0
    with driven(feed=feed) as run:
        run.step()
        for _ in range(3):
            run.loop.listen(Told(hanging_s=5.0))
        start = time.monotonic()
        run.loop.stop()
        run.thread.join(5)
        assert time.monotonic() - start < END_S + 0.4
    assert run.tracker.closed == 1


def test_the_snapshot():
    with driven(target=BOX) as run:
        before = run.loop.snapshot()
        assert (before.model, before.backend, before.source) == ("quick", "nothing", "by hand")
        assert before.last is None
        update = run.step()
        assert wait_for(lambda: run.loop.snapshot().last is update)
        after = run.loop.snapshot()
        assert (after.updates, after.feed_counts["captured"]) == (1, 1)
        assert 0 <= after.silent_s <= after.uptime_s


@pytest.fixture(scope="module")
def larger_video(short_video):
    """The short video in frames of another size, and its boxes."""
    frames = [cv2.resize(frame, (480, 300)) for frame in short_video.frames]
    return frames, short_video.boxes_xywh * np.tile([1.5, 1.25], 2)


def overlap(update, truth):
    return iou(np.array(update.box_xywh), truth).item()


def test_the_default_tracker_through_a_change_of_size_and_a_switch(short_video, larger_video):
    """The target stays the same; a new tracker of the same kind takes it over where it is."""
    box = short_video.boxes_xywh[0]
    with driven(Tracker.load(threads=1), target=tuple(box)) as run:
        for frame, truth in zip(short_video.frames[:5], short_video.boxes_xywh, strict=False):
            assert overlap(run.step(frame), truth) > 0.5
        for frame, truth in list(zip(*larger_video, strict=True))[5:9]:
            update = run.step(frame)
            assert update.frame_size == (480, 300)
            assert overlap(update, truth) > 0.5
        future = run.loop.switch(lambda: Tracker.load(threads=1))
        for frame, truth in list(zip(*larger_video, strict=True))[9:]:
            assert overlap(run.step(frame), truth) > 0.5
        future.result(5)
        refused = run.loop.track((1e4, 0, 10, 10))
        assert overlap(run.step(larger_video[0][-1]), larger_video[1][-1]) > 0.5
        with pytest.raises(BoxError):
            refused.result(5)
    assert run.counts() == {"frame_size_changed": 1}
