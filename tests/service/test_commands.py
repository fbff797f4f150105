"""What waits for the loop, and how it is answered."""

from __future__ import annotations

import numpy as np
import pytest

from siamtrt.service import commands as module
from siamtrt.service.commands import MOST_WAITING, CommandError, Commands

FRAME = np.zeros((4, 4, 3), np.uint8)


@pytest.fixture
def waiting():
    return Commands()


@pytest.fixture
def ran():
    return []


@pytest.fixture
def ask(waiting, ran):
    def asked(name, needs_frame=True, **options):
        return waiting.ask(lambda frame: ran.append((name, frame is not None)), needs_frame=needs_frame, **options)

    return asked


def test_one_command_that_needs_a_frame_runs_with_each(waiting, ask, ran):
    """And the others between them, in the order they were asked."""
    for name, needs_frame in (("a", True), ("stop", False), ("b", True), ("end", False)):
        ask(name, needs_frame)
    waiting.obey(FRAME)
    assert ran == [("a", True), ("stop", False)]
    waiting.obey(FRAME)
    assert ran[2:] == [("b", True), ("end", True)] or ran[2:] == [("b", True), ("end", False)]
    waiting.obey(FRAME)
    assert len(ran) == 4


def test_without_a_frame_only_those_run_that_need_none(waiting, ask, ran):
    ask("stop", needs_frame=False)
    ask("a")
    waiting.obey(None)
    assert ran == [("stop", False)]
    waiting.obey(FRAME)
    assert ran[1:] == [("a", True)]


def test_what_comes_meanwhile_waits_behind(waiting, ran):
    waiting.ask(lambda _: waiting.ask(lambda _: ran.append("later"), needs_frame=False), needs_frame=False)
    waiting.ask(lambda _: ran.append("first"), needs_frame=True)
    waiting.obey(None)
    waiting.obey(FRAME)
    assert ran == ["first", "later"]


def test_patience(waiting, ask, ran, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    short, long = ask("short"), ask("long", patience_s=float("inf"))
    now[0] += module.PATIENCE_S - 0.01
    waiting.obey(None)
    assert not short.done()
    now[0] += 1
    waiting.obey(None)
    with pytest.raises(CommandError, match="no frame to take the target from: received none within 2 s"):
        short.result(0)
    assert not long.done()
    now[0] += 1e6
    waiting.obey(None)
    waiting.obey(FRAME)
    assert long.done()
    assert ran == [("long", True)]


def test_late_commands_are_obeyed_where_there_are_frames(waiting, ask, ran, monkeypatch):
    """A slow camera: its first frame comes after the patience of both commands."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    ask("a")
    ask("b")
    now[0] = 10 * module.PATIENCE_S
    waiting.obey(FRAME)
    waiting.obey(FRAME)
    assert ran == [("a", True), ("b", True)]


def test_few_wait_at_a_time(waiting, ask):
    futures = [ask(str(number)) for number in range(MOST_WAITING)]
    with pytest.raises(CommandError, match="too many commands at once"):
        ask("one more")
    waiting.obey(FRAME)
    assert [future.done() for future in futures] == [True] + [False] * (MOST_WAITING - 1)
    ask("room again")


def test_what_the_work_raises_is_the_answer(waiting):
    failing = waiting.ask(lambda _: 1 / 0, needs_frame=False)
    fine = waiting.ask(lambda _: 7, needs_frame=False)
    waiting.obey(None)
    with pytest.raises(ZeroDivisionError):
        failing.result(0)
    assert fine.result(0) == 7


def test_cancelled_commands_are_not_carried_out(waiting, ask, ran):
    assert ask("gone").cancel()
    waiting.obey(FRAME)
    assert ran == []
    assert ask("gone again").cancel()
    waiting.end()


def test_the_end_answers_everybody(waiting, ask, ran):
    future = ask("a")
    waiting.end()
    with pytest.raises(CommandError, match="the tracking loop has ended"):
        future.result(0)
    with pytest.raises(CommandError, match="the tracking loop has ended"):
        ask("late")
    waiting.obey(FRAME)
    assert ran == []
