"""Weights on their way into the package."""

from __future__ import annotations

import io
import tarfile

import pytest

from siamtrt.errors import CheckpointError
from siamtrt.training import release


def test_packing_depends_on_names_and_bytes_alone(tmp_path):
    archives = []
    for name, order in (("one", ("a", "b/c")), ("two", ("b/c", "a"))):
        for file in order:
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.encode() * 100)
        archives.append(release.packed(tmp_path / name))
    assert archives[0] == archives[1]
    with tarfile.open(fileobj=io.BytesIO(archives[0])) as archive:
        archive.extractall(tmp_path / "out", filter="data")
    assert (tmp_path / "out" / "b" / "c").read_bytes() == b"b/c" * 100


def test_weights_of_another_network_change_nothing(tmp_path, tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(release, "WEIGHTS", tmp_path / "default.safetensors")
    monkeypatch.setattr(release, "ARCHIVE", tmp_path / "default.tar.xz")
    with pytest.raises(CheckpointError):
        release.release(tiny_checkpoint)
    assert not list(tmp_path.glob("default*"))
