"""A tracking loop driven by the test, and the address of its API."""

from __future__ import annotations

import pytest
from served_loops import playing, served
from service_loops import driven


@pytest.fixture
def run():
    with driven() as run:
        yield run


@pytest.fixture
def address(run):
    with playing(run), served(run) as address:
        yield address
