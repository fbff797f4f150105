"""Tracking loops: one driven by the test, with the address of its API after a frame, and one that runs by itself."""

from __future__ import annotations

import pytest
from served_loops import playing, served
from service_loops import driven
from service_updates import wait_for
from view_scene import running_view


@pytest.fixture
def run():
    with driven() as run:
        yield run


@pytest.fixture
def address(run):
    with playing(run), served(run) as address:
        assert wait_for(lambda: run.loop.snapshot().last)
        yield address


@pytest.fixture(scope="module")
def running():
    """A loop with a view, which all tests of a module look at."""
    with running_view() as view:
        yield view
