"""An output's thread: order, bounded memory, failures counted, and an end that nothing can delay."""

import gc
import sys
import threading
import time
import weakref

import pytest
from service_updates import FRAME, update_of, wait_for

from siamtrt.service.faults import Faults
from siamtrt.service.loop import END_S
from siamtrt.service.worker import OutputListener, Worker


class Recorder:
    """An output that may be told to wait, and that fails at the numbers it is given."""

    name = "recorder"

    def __init__(self, failing=(), error=OSError):
        self.sent, self.closed, self.may_go_on = [], 0, threading.Event()
        self.started, self.failing, self.error = threading.Event(), failing, error
        self.may_go_on.set()

    def send(self, update):
        self.started.set()
        self.may_go_on.wait()
        if update.number in self.failing:
            raise self.error(f"number {update.number}")
        self.sent.append(update.number)

    def close(self):
        self.closed += 1


def _ended(*listeners):
    """As the loop does it: seconds taken, and whether each ended."""
    start = time.monotonic()
    for listener in listeners:
        listener.close()
    ended = [listener.ended(max(start + END_S - time.monotonic(), 0.0)) for listener in listeners]
    return time.monotonic() - start, ended


def test_results_come_in_order_and_all_before_the_end():
    output, faults = Recorder(), Faults()
    listener = OutputListener(output, faults)
    assert listener.name == "recorder"
    for number in range(200):
        listener.take(update_of(number), FRAME)
    assert _ended(listener)[1] == [True]
    assert (output.sent, output.closed, faults.seen()) == (list(range(200)), 1, [])


def test_a_slow_output_loses_the_oldest_and_keeps_the_newest():
    output, faults = Recorder(), Faults()
    output.may_go_on.clear()
    listener = OutputListener(output, faults)
    listener.take(update_of(0), FRAME)
    assert output.started.wait(5)
    for number in range(1, 1001):
        listener.take(update_of(number), FRAME)
    output.may_go_on.set()
    assert _ended(listener)[1] == [True]
    assert output.sent == [0, *range(745, 1001)]
    (behind,) = faults.seen()
    assert (behind.kind, behind.count) == ("output_behind", 744)
    assert behind.told.startswith("recorder:")


def test_what_waits_is_bounded_and_frames_are_not_kept():
    output, faults = Recorder(), Faults()
    output.may_go_on.clear()
    listener = OutputListener(output, faults)
    updates, frame = [], FRAME.copy()
    for number in range(600):
        update = update_of(number)
        updates.append(weakref.ref(update))
        listener.take(update, frame)
    assert sys.getrefcount(frame) <= 2  # here, and as this call's argument
    del update
    gc.collect()
    assert sum(reference() is not None for reference in updates) <= 257
    output.may_go_on.set()
    _ended(listener)


@pytest.mark.parametrize("error", [OSError, ValueError, SystemExit])
def test_a_failure_is_counted_with_name_and_reason_and_the_next_has_its_chance(error):
    output, faults = Recorder(failing=(1, 3), error=error), Faults()
    listener = OutputListener(output, faults)
    for number in range(5):
        listener.take(update_of(number), FRAME)
    assert _ended(listener)[1] == [True]
    assert output.sent == [0, 2, 4]
    (failed,) = faults.seen()
    assert (failed.kind, failed.count) == ("output_failed", 2)
    assert failed.told == f"recorder: {error.__name__}: number 3"


def test_outputs_that_hang_for_ever_delay_neither_the_end_nor_the_others():
    hanging, faults = [Recorder() for _ in range(4)], Faults()
    for output in hanging:
        output.may_go_on.clear()
    good = Recorder()
    listeners = [OutputListener(output, faults) for output in (*hanging[:2], good, *hanging[2:])]
    for number in range(3):
        for listener in listeners:
            before = time.monotonic()
            listener.take(update_of(number), FRAME)
            assert time.monotonic() - before < 0.1
    seconds, ended = _ended(*listeners)
    assert seconds < END_S + 0.2
    assert ended == [False, False, True, False, False]
    assert (good.sent, good.closed) == ([0, 1, 2], 1)
    assert faults.counts() == {"output_hangs": 4}
    for output in hanging:  # it comes back after all: nothing is sent twice, and it is closed
        output.may_go_on.set()
        assert wait_for(lambda output=output: output.closed)
        assert output.sent == [0, 1, 2]


def test_a_close_that_fails_is_counted():
    output, faults = Recorder(), Faults()
    output.close = lambda: 1 / 0
    listener = OutputListener(output, faults)
    assert _ended(listener)[1] == [True]
    assert faults.seen()[0].told == "recorder: ZeroDivisionError: division by zero"


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def test_an_exception_without_a_text_does_not_end_the_thread():
    output, faults = Recorder(failing=(0,), error=Unprintable), Faults()
    listener = OutputListener(output, faults)
    for number in range(2):
        listener.take(update_of(number), FRAME)
    assert _ended(listener)[1] == [True]
    assert (output.sent, faults.counts()) == ([1], {"output_failed": 1})
    assert "Unprintable" in faults.seen()[0].detail


def test_nothing_is_taken_after_the_close():
    handled, faults = [], Faults()
    worker = Worker("worker", handled.append, faults, lambda: handled.append("end"))
    worker.put(1)
    worker.close()
    worker.put(2)
    worker.close()
    assert worker.ended(5)
    worker.put(3)
    assert handled == [1, "end"]
    assert worker.ended(0)
    assert faults.seen() == []


def test_the_newest_alone_may_be_kept():
    handled, go_on, started, faults = [], threading.Event(), threading.Event(), Faults()

    def handle(item):
        started.set()
        go_on.wait()
        handled.append(item)

    worker = Worker("worker", handle, faults, depth=1)
    worker.put(0)
    assert started.wait(5)
    for item in range(1, 10):
        worker.put(item)
    go_on.set()
    worker.close()
    assert worker.ended(5)
    assert handled == [0, 9]
    assert faults.counts() == {"output_behind": 8}
