"""Feeds: the newest frame only, streams that come back, and a reader that nothing blocks."""

from __future__ import annotations

import gc
import itertools
import queue
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing, suppress
from dataclasses import replace
from threading import Event

import cv2
import numpy as np
import pytest

from siamtrt.errors import SourceError
from siamtrt.runtime.capture import MOST_HANGING
from siamtrt.runtime.capture_rules import Rules, back_off
from siamtrt.runtime.live import LIVE, Captured, EndOfSource, FileFeed, LiveFeed, open_feed
from siamtrt.runtime.origins import Origin
from siamtrt.runtime.streams import CorruptFrameError, StreamLostError

SOON_S = 10.0  # for what takes milliseconds on an idle machine
AT_ONCE = replace(LIVE, pauses=lambda: itertools.repeat(0.0))


def picture(value: int = 0, height: int = 4) -> np.ndarray:
    return np.full((height, 6, 3), value, np.uint8)


HANG = "hang"  # as a driver does, until the test is over


class Scripted:
    """A device: each connection gives what its script says; an exception is raised, an event is waited for."""

    def __init__(self, *scripts):
        self.scripts = iter(scripts)
        self.opened = self.closed = 0
        self.over = Event()
        self.origin = Origin("device", self.open, live=True)

    def open(self):
        script = next(self.scripts, [HANG])
        if isinstance(script, Exception):
            raise script
        self.opened += 1
        return _Connection(self, iter(script))


class _Connection:
    fps = 50.0

    def __init__(self, device, steps):
        self.device, self.steps = device, steps

    def read(self):
        step = next(self.steps, StreamLostError("cut"))
        while isinstance(step, Event) or step is HANG:
            (self.device.over if step is HANG else step).wait()
            step = next(self.steps, StreamLostError("cut"))
        if isinstance(step, BaseException):
            raise step
        return step

    def close(self):
        self.device.closed += 1


@pytest.fixture
def faults():
    return []


@pytest.fixture
def live(faults):
    """A live feed of scripts; its device lets go at the end."""
    feeds = []

    def open_scripts(*scripts, rules=AT_ONCE, on_fault=lambda *fault: faults.append(fault)):
        device = Scripted(*scripts)
        feeds.append((LiveFeed(device.origin, on_fault, rules=rules), device))
        return feeds[-1][0]

    yield open_scripts
    for feed, device in feeds:
        device.over.set()
        feed.close()


@pytest.fixture
def pictures():
    """A queue of pictures, and the feed of a generator that waits for them; None ends it."""
    waiting = queue.Queue()

    def arriving():
        while (arrived := waiting.get()) is not None:
            yield arrived

    with closing(open_feed(arriving(), realtime=True)) as feed:
        yield waiting, feed
        waiting.put(None)


@pytest.fixture
def threads():
    """Counts the threads begun since the test was."""
    before = set(threading.enumerate())
    return lambda: len(set(threading.enumerate()) - before)


def until(condition):
    deadline = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def read_all(feed):
    frames = []
    with suppress(EndOfSource):
        while (captured := feed.newest(SOON_S)) is not None:
            frames.append(captured)
        pytest.fail("neither a frame nor the end")
    return frames


def kinds(faults):
    return Counter(kind for kind, _ in faults)


def test_a_slow_reader_gets_the_newest_frame(pictures):
    pictures, feed = pictures
    assert feed.live
    for value in range(10):
        pictures.put(picture(value))
    until(lambda: feed.counts()["captured"] == 10)
    newest = feed.newest(SOON_S)
    assert (newest.number, newest.frame[0, 0, 0], newest.gap_s) == (9, 9, 0.0)
    assert feed.newest(0.0) is None
    pictures.put(picture(10))
    assert feed.newest(SOON_S).number == 10
    assert feed.counts() == {"captured": 11, "dropped": 9, "reconnects": 0, "gap_seconds": 0.0}
    pictures.put(None)
    with pytest.raises(EndOfSource):
        feed.newest(SOON_S)


def test_the_time_of_capture_is_the_frame_s_own(pictures):
    pictures, feed = pictures
    before = time.monotonic()
    pictures.put(picture())
    until(lambda: feed.counts()["captured"] == 1)
    after = time.monotonic()
    time.sleep(0.05)
    assert before < feed.newest(SOON_S).at_s <= after


def test_a_frame_is_not_changed_by_the_buffer_it_came_from():
    buffer = picture(1)

    def refilled():
        for value in range(1, 4):
            buffer[:] = value
            yield buffer

    assert [captured.frame[0, 0, 0] for captured in read_all(open_feed(refilled()))] == [1, 2, 3]


def test_a_cut_stream_comes_back(live, faults):
    feed = live(*[[picture(n)] for n in range(21)])
    until(lambda: feed.counts()["captured"] == 21)
    counts = feed.counts()
    until(lambda: kinds(faults)["stream_lost"] == 21)
    assert (counts["reconnects"], counts["dropped"]) == (20, 20)
    assert set(faults) == {("stream_lost", "cut")}
    newest = feed.newest(SOON_S)
    assert (newest.number, newest.frame[0, 0, 0]) == (20, 20)
    assert newest.gap_s > 0, "that of the frames it took the place of"


def test_the_gap_is_counted(live, faults):
    refusal = SourceError("camera does not open", received="index 0", expected="a camera", fix="plug it in")
    slow = replace(LIVE, pauses=lambda: itertools.repeat(0.05))
    feed = live([picture()], OSError("no route"), refusal, [picture(1)], rules=slow)
    first = feed.newest(SOON_S)
    until(lambda: feed.counts()["gap_seconds"] > 0)
    during = feed.counts()
    second = feed.newest(SOON_S)
    assert (first.gap_s, second.gap_s) == (0.0, pytest.approx(second.at_s - first.at_s))
    assert 0.15 <= second.gap_s < SOON_S
    assert during["reconnects"] == 0
    until(lambda: len(faults) == 4)
    assert faults[:3] == [
        ("stream_lost", "cut"),
        ("reconnect_failed", "the source failed: OSError from device: no route"),
        ("reconnect_failed", "camera does not open: index 0"),
    ]
    counts = feed.counts()
    assert counts["reconnects"] == 1
    assert counts["gap_seconds"] >= second.gap_s


def test_pauses_double_up_to_the_most():
    assert list(itertools.islice(back_off(jitter=lambda: 0.0), 8)) == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    pauses = list(itertools.islice(back_off(), 8))
    assert all(0 <= p / q - 1 <= 0.1 for p, q in zip(pauses, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5], strict=True))
    assert len({p / q for p, q in zip(pauses, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5], strict=True)}) > 1


def test_pauses_begin_again_once_frames_come(live):
    begun, waited = [], []

    def pauses():
        begun.append(len(waited))
        for _ in itertools.count():
            waited.append(0)
            yield 0.0

    feed = live([picture()], [], [], [picture()], [], rules=replace(LIVE, pauses=pauses))
    until(lambda: feed.counts()["reconnects"] == 1 and len(waited) == 5)
    assert begun == [0, 3], "after three attempts, of which two connected and gave nothing"


def test_a_stalled_stream_is_opened_again_and_the_old_one_stays_silent(live, faults, threads):
    hang = Event()
    feed = live([picture(1), hang, picture(99)], [picture(2)], rules=replace(AT_ONCE, stall_s=0.05))
    assert feed.newest(SOON_S).frame[0, 0, 0] == 1
    captured = feed.newest(SOON_S)
    assert captured.frame[0, 0, 0] == 2
    assert captured.gap_s >= 0.05
    hang.set()
    until(lambda: threads() == 1)
    assert feed.newest(0.0) is None
    assert feed.counts()["captured"] == 2
    assert kinds(faults)["stream_stalled"] == 1
    assert faults[0][1].startswith("no frame for 0.")


def test_threads_that_hang_do_not_pile_up(live, faults, threads):
    hang = Event()
    feed = live(*[[picture(), hang]] * 40, rules=replace(AT_ONCE, stall_s=0.01))
    until(lambda: feed.newest(0.02) is None and threads() == MOST_HANGING + 1)
    for _ in range(10):
        assert feed.newest(0.02) is None
    assert threads() == MOST_HANGING + 1
    assert kinds(faults) == {"stream_stalled": MOST_HANGING}
    assert feed.counts()["captured"] == MOST_HANGING + 1
    hang.set()
    until(lambda: threads() == 1)


def test_nothing_blocks_the_reader(live):
    feed = live([HANG])
    start = time.monotonic()
    assert feed.newest(0.05) is None
    assert 0.05 <= time.monotonic() - start < 1.0
    start = time.monotonic()
    feed.close()
    assert time.monotonic() - start < 1.0
    feed.close()
    with pytest.raises(EndOfSource):
        feed.newest(SOON_S)


def test_no_frame_is_given_out_after_the_end(live):
    feed = live([picture(), HANG])
    until(lambda: feed.counts()["captured"] == 1)
    feed.close()
    with pytest.raises(EndOfSource):
        feed.newest(SOON_S)


def test_close_wakes_a_reader(live):
    feed = live([HANG])
    ended = []

    def read():
        try:
            feed.newest(60.0)
        except EndOfSource as end:
            ended.append(end)

    reader = threading.Thread(target=read)
    reader.start()
    feed.close()
    reader.join(SOON_S)
    assert len(ended) == 1


@pytest.mark.parametrize(
    ("bad", "detail"),
    [
        (None, "received NoneType"),
        (np.zeros((0, 6, 3), np.uint8), "received shape (0, 6, 3)"),
        (np.zeros((4, 6, 3), np.float32), "received float32 array of shape (4, 6, 3)"),
        (np.zeros((4, 6), np.uint8), "received uint8 array of shape (4, 6)"),
        (np.zeros((4, 6, 4), np.uint8), "received uint8 array of shape (4, 6, 4)"),
    ],
    ids=["none", "empty", "float", "grey", "four channels"],
)
def test_unusable_frames_are_dropped_and_named(live, faults, bad, detail):
    feed = live([bad, picture(7), HANG])
    newest = feed.newest(SOON_S)
    assert (newest.number, newest.frame[0, 0, 0]) == (1, 7)
    assert faults == [("frame_unusable", detail)]
    assert feed.counts()["dropped"] == 1


def test_corrupt_frames_are_dropped_and_named(live, faults):
    feed = live([picture(), *[CorruptFrameError("error -1094995529")] * 3, picture(7), HANG])
    until(lambda: feed.counts()["captured"] == 5)
    assert feed.newest(SOON_S).frame[0, 0, 0] == 7
    assert faults == [("frame_corrupt", "error -1094995529")] * 3
    assert feed.counts()["dropped"] == 4, "with the first, whose place the last one took"


def test_other_sizes_are_passed_on(pictures):
    pictures, feed = pictures
    for height in (4, 9, 2):
        pictures.put(picture(height=height))
        assert feed.newest(SOON_S).frame.shape == (height, 6, 3)


def test_who_is_told_cannot_end_the_capture(live):
    def fails(kind, detail):
        raise RuntimeError(kind)

    feed = live([None, picture(1)], [picture(2), HANG], on_fault=fails)
    until(lambda: feed.counts()["captured"] == 3)
    assert feed.newest(SOON_S).frame[0, 0, 0] == 2


@pytest.mark.parametrize("error", [SystemExit(), KeyboardInterrupt(), MemoryError()], ids=["exit", "ctrl-c", "memory"])
def test_no_exception_ends_a_live_capture(live, faults, error):
    feed = live([picture(1), error], [picture(2), HANG])
    until(lambda: feed.counts()["captured"] == 2)
    assert feed.newest(SOON_S).frame[0, 0, 0] == 2
    assert faults == [("stream_lost", f"the source failed: {type(error).__name__} from device:")]


def test_credentials_are_not_told(live, faults):
    live([picture(), OSError("rtsp://me:secret@host/x is gone")], [HANG])
    until(lambda: faults)
    assert "secret" not in str(faults)
    assert "rtsp://***@host/x is gone" in faults[0][1]


def test_a_source_that_does_not_open(faults, threads):
    refusal = SourceError("no", received="x", expected="y", fix="z")
    with pytest.raises(SourceError) as refused:
        LiveFeed(Scripted(refusal).origin, lambda *fault: faults.append(fault))
    assert refused.value is refusal
    with pytest.raises(SourceError, match="the source failed: received OSError from device: busy"):
        LiveFeed(Scripted(OSError("busy")).origin)
    until(lambda: threads() == 0)
    assert faults == []


def test_a_driver_that_hangs_while_opening(threads):
    """And answers when nobody waits any more: what it opened then is closed."""
    device = Scripted([picture()])
    answers = Event()

    def open_late():
        answers.wait()
        return device.open()

    start = time.monotonic()
    with pytest.raises(SourceError, match="no answer from device"):
        LiveFeed(Origin("device", open_late, live=True), rules=replace(AT_ONCE, open_s=0.05))
    assert time.monotonic() - start < 2.0
    answers.set()
    until(lambda: threads() == 0)
    assert device.opened == device.closed == 1


def test_connections_are_closed(threads):
    device = Scripted(*[[picture()]] * 50)
    feed = LiveFeed(device.origin, rules=AT_ONCE)
    until(lambda: feed.counts()["reconnects"] == 49 and device.closed == 50)
    assert threads() == 1
    device.over.set()
    feed.close()
    assert device.opened == device.closed
    assert threads() == 0


def test_a_feed_that_is_forgotten_stops(threads):
    device = Scripted(picture(n % 256) for n in itertools.count())
    feed = LiveFeed(device.origin, rules=AT_ONCE)
    feed.newest(SOON_S)
    del feed
    gc.collect()
    until(lambda: threads() == 0)


@pytest.mark.parametrize("step", ["time.sleep(60)", "picture"], ids=["hangs", "runs"])
def test_the_interpreter_ends_beside_a_thread(step):
    """Exit code 0 and nothing on stderr, whether the thread hangs or reads on."""
    code = f"""
import time, numpy as np
from siamtrt.runtime.live import open_feed
picture = np.zeros((4, 4, 3), np.uint8)
def frames():
    yield picture
    while True:
        {step}
        yield picture
feed = open_feed(frames(), realtime=True)
assert feed.newest(10) is not None
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_a_list_gives_every_frame():
    feed = open_feed([picture(n) for n in range(5)])
    assert not feed.live
    time.sleep(0.05)
    asked_s = time.monotonic()
    frames = read_all(feed)
    assert [captured.frame[0, 0, 0] for captured in frames] == [0, 1, 2, 3, 4]
    assert [captured.number for captured in frames] == [0, 1, 2, 3, 4]
    assert feed.counts() == {"captured": 5, "dropped": 0, "reconnects": 0, "gap_seconds": 0.0}
    assert frames[0].at_s >= asked_s, "read ahead, but as old as the reader's question"
    with pytest.raises(EndOfSource):
        feed.newest(SOON_S)


def test_an_array_of_frames_is_a_source():
    frames = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones((3, 4, 6, 3), np.uint8)
    assert [int(captured.frame[0, 0, 0]) for captured in read_all(open_feed(frames))] == [0, 1, 2]


def test_loop_begins_again():
    feed = open_feed([picture(n) for n in range(3)], loop=True)
    assert [feed.newest(SOON_S).frame[0, 0, 0] for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0]
    assert feed.counts()["reconnects"] == 0
    feed.close()


def test_loop_of_what_cannot_begin_again_ends():
    assert len(read_all(open_feed((picture(n) for n in range(3)), loop=True))) == 3
    assert read_all(open_feed([], loop=True)) == []


def test_a_generator_that_fails_ends_a_finite_feed(faults):
    def frames():
        yield picture()
        raise ValueError("broken")

    feed = open_feed(frames(), on_fault=lambda *fault: faults.append(fault))
    feed.newest(SOON_S)
    for _ in range(2):
        with pytest.raises(SourceError, match="ValueError from frames of a Python generator: broken") as failed:
            feed.newest(SOON_S)
        assert not isinstance(failed.value, EndOfSource)
    assert kinds(faults) == {"stream_lost": 1}


def test_unusable_frames_of_a_finite_feed(faults):
    feed = open_feed([picture(0), None, picture(2)], on_fault=lambda *fault: faults.append(fault))
    assert [captured.number for captured in read_all(feed)] == [0, 2]
    assert faults == [("frame_unusable", "received NoneType")]


def test_a_folder_with_an_unreadable_image(tmp_path, faults):
    for number in (9, 10, 11):
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture(number))
    (tmp_path / "10.png").write_text("no picture")
    feed = open_feed(tmp_path, on_fault=lambda *fault: faults.append(fault))
    assert [captured.frame[0, 0, 0] for captured in read_all(feed)] == [9, 11]
    assert kinds(faults) == {"frame_unusable": 1}
    assert (feed.name, feed.live) == (str(tmp_path), False)


def test_a_video_file_as_opencv_reads_it(short_video):
    video = cv2.VideoCapture(str(short_video.path))
    expected = [frame for ok, frame in iter(video.read, (False, None)) if ok]
    feed = open_feed(str(short_video.path))
    frames = read_all(feed)
    assert len(frames) == len(expected) > 5
    assert all(np.array_equal(captured.frame, frame) for captured, frame in zip(frames, expected, strict=True))
    assert feed.fps == video.get(cv2.CAP_PROP_FPS)


def test_a_video_played_in_real_time_drops_what_is_not_taken(short_video):
    feed = open_feed(short_video.path, realtime=True, loop=True)
    assert feed.live
    start = feed.newest(SOON_S)
    time.sleep(0.3)
    late = feed.newest(SOON_S)
    frames = (late.at_s - start.at_s) * feed.fps
    assert late.number - start.number == pytest.approx(frames, abs=3)
    assert feed.counts()["dropped"] >= late.number - start.number - 1 > 0
    feed.close()


def test_real_time_is_no_faster_than_its_rate():
    start = time.monotonic()
    frames = read_all(open_feed([picture(n) for n in range(7)], realtime=True))
    assert frames[-1].number == 6
    assert frames[-1].at_s - start >= 6 / 30


def test_an_iterator_sets_its_own_pace_in_real_time():
    start = time.monotonic()
    frames = read_all(open_feed((picture() for _ in range(90)), realtime=True))
    assert frames[-1].number == 89
    assert frames[-1].at_s - start < 2.0, "at 30 a second it would be 3"


def test_an_iterable_without_a_length_begins_again():
    class Pair:
        def __iter__(self):
            return iter([picture(1), picture(2)])

    feed = open_feed(Pair(), realtime=True, loop=True)
    until(lambda: feed.counts()["captured"] > 6)
    assert feed.counts()["reconnects"] == 0
    feed.close()


@pytest.mark.parametrize(
    "source", ["absent.mp4", "9999", "/dev/null", "ftp://me:secret@host/x", "rtsp:/me:secret@host/x"]
)
def test_what_is_no_source(source):
    with pytest.raises(SourceError) as refused:
        open_feed(source)
    assert "secret" not in str(refused.value)


def test_captured_is_a_value():
    assert Captured(picture(), 3, 1.0).gap_s == 0.0
    with pytest.raises(AttributeError):
        Captured(picture(), 3, 1.0).number = 4


def test_file_feed_takes_an_origin():
    """The two classes are open to a source of one's own."""
    device = Scripted([picture(1), EndOfSource("over", received="x", expected="y", fix="z")])
    assert len(read_all(FileFeed(device.origin))) == 1
    assert Rules(newest_only=True).stall_s == float("inf")
