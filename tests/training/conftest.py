"""What the tests of loss detection's fit share."""

from __future__ import annotations

import pytest
from loss_data import write_videos
from toy import save_toy, toy_models


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A tiny bundle with a proposal head."""
    return save_toy(toy_models(), tmp_path_factory.mktemp("toy") / "toy")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Annotated videos."""
    return write_videos(tmp_path_factory.mktemp("videos"))
