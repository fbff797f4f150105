"""A tracking loop driven by the test, and the address of its API, which has dealt with a frame."""

from __future__ import annotations

import pytest
from served_loops import playing, served
from service_loops import driven
from service_updates import wait_for


@pytest.fixture
def run():
    with driven() as run:
        yield run


@pytest.fixture
def address(run):
    with playing(run), served(run) as address:
        assert wait_for(lambda: run.loop.snapshot().last)
        yield address
