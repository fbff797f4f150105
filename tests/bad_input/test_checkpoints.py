"""Checkpoints that are missing, cut short, hostile, or of another network."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from siamtrt.errors import CheckpointError, SiamtrtError
from siamtrt.models.checkpoints import load_network, read_state_dict
from siamtrt.models.presets import PRESETS


class RunsCode:
    """Unpickled without care, it makes a directory."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.fixture(scope="module")
def state(tiny_checkpoint):
    return read_state_dict(tiny_checkpoint)


@pytest.fixture
def few(state):
    """Three small tensors: a checkpoint short enough to be cut everywhere."""
    return {name: state[name].flatten()[:2].clone() for name in list(state)[:3]}


def save(value, path, zipped=True):
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path


@pytest.mark.parametrize("name", ["absent.pth", "", "x" * 300 + ".pth"], ids=["absent", "directory", "long name"])
def test_missing(fails, work, name):
    assert str(work / name) in fails("export", work / name, "-o", work / "out")


def test_missing_is_a_checkpoint_error(refused, tmp_path):
    with refused(CheckpointError, "no such checkpoint"):
        load_network(tmp_path / "absent.pth")


@pytest.mark.parametrize("part", [0.0, 0.001, 0.25, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_truncated(fails, state, work, zipped, part):
    path = save(state, work / "cut.pth", zipped)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    message = fails("export", path, "-o", work / "out")
    assert message.startswith("unreadable checkpoint")
    assert "cut.pth" in message
    assert "download" in message


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_truncated_at_any_byte(refused, few, tmp_path, zipped):
    """Every seventh length of a small file: torch raises IndexError, struct.error and more, we raise one error."""
    whole = save(few, tmp_path / "few.pth", zipped).read_bytes()
    path = tmp_path / "cut.pth"
    for length in [*range(0, len(whole) - 1, 7), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with refused(CheckpointError, "cut.pth"):
            read_state_dict(path)


@pytest.mark.parametrize("length", [0, 4, 8, 100, -1])
def test_truncated_safetensors(fails, state, work, length):
    path = work / "cut.safetensors"
    save_file(state, path)
    path.write_bytes(path.read_bytes()[:length])
    assert fails("export", path, "-o", work / "out").startswith("unreadable checkpoint")


def test_truncated_in_a_shell(fails_in_shell, tiny_checkpoint, work):
    """No warning of torch beside our line."""
    (work / "cut.pth").write_bytes(tiny_checkpoint.read_bytes()[:100_000])
    fails_in_shell("export", "cut.pth", "-o", "out")


@pytest.mark.parametrize("content", [b"<html>not found</html>", b"\x80\x02.", b"\x80\x02N.", b"PK\x03\x04"])
def test_not_a_checkpoint(fails, work, content):
    (work / "page.pth").write_bytes(content)
    assert "page.pth" in fails("export", work / "page.pth", "-o", work / "out")


def test_payload_would_run(tmp_path):
    """The payload of the tests below does run where pickle is trusted."""
    pickle.loads(pickle.dumps(RunsCode(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("form", ["zip", "legacy", "bare pickle"])
@pytest.mark.parametrize("place", ["whole", "beside the weights"])
def test_pickle_that_would_run_code(fails, few, tmp_path, work, form, place):
    payload = RunsCode(tmp_path / "ran")
    value = payload if place == "whole" else {"state_dict": few, "epoch": payload}
    if form == "bare pickle":
        value = value if place == "whole" else {"epoch": payload}
        (work / "hostile.pth").write_bytes(pickle.dumps(value))
    else:
        save(value, work / "hostile.pth", form == "zip")
    message = fails("export", work / "hostile.pth", "-o", work / "out")
    assert message.startswith(("checkpoint refused", "unreadable checkpoint"))
    assert not (tmp_path / "ran").exists()


def test_refused_code_is_named(fails_in_shell, work, tmp_path):
    save(RunsCode(tmp_path / "ran"), work / "hostile.pth")
    message = fails_in_shell("export", "hostile.pth", "-o", "out")
    assert not (tmp_path / "ran").exists()
    assert message.startswith("checkpoint refused: its pickle asks to import code")
    assert "mkdir" in message
    assert "state_dict()" in message.partition("Fix:")[2]


def test_module_saved_whole(fails, work):
    """torch.save(model): its class would have to be imported."""
    save(torch.nn.Conv2d(1, 1, 1), work / "model.pth")
    assert fails("export", work / "model.pth", "-o", work / "out").startswith("checkpoint refused")


@pytest.mark.parametrize("value", [{}, [1, 2], {"epoch": 3}, torch.zeros(3), {"state_dict": {"w": "text"}}, None],
                         ids=["empty", "list", "numbers", "tensor", "text", "none"])  # fmt: skip
def test_no_parameters(fails, work, value):
    save(value, work / "odd.pth")
    message = fails("export", work / "odd.pth", "-o", work / "out")
    assert message.startswith("no parameters in the checkpoint")
    assert "odd.pth" in message


@pytest.mark.parametrize(
    "odd", [torch.zeros(1).expand(1 << 40), torch.eye(3).to_sparse(), torch.zeros(3, dtype=torch.complex64)],
    ids=["a view of four terabytes", "sparse", "complex"],
)
def test_tensor_that_is_no_plain_weight(fails, state, work, odd):
    save({**state, next(iter(state)): odd}, work / "odd.pth")
    assert "dense real tensors" in fails("export", work / "odd.pth", "-o", work / "out")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_weight_that_is_not_finite(fails, state, work, value):
    name = next(iter(state))
    spoiled = state[name].double()
    spoiled.view(-1)[-1] = value
    save({**state, name: spoiled}, work / "nan.pth")
    message = fails("export", work / "nan.pth", "-o", work / "out")
    assert message.startswith("checkpoint holds NaN or infinity")
    assert name in message


def test_another_architecture(fails, work):
    save({f"layers.{index}.weight": torch.zeros(3, 3) for index in range(9)}, work / "other.pth")
    message = fails("export", work / "other.pth", "-o", work / "out")
    assert "9 unexpected (layers.0.weight" in message
    assert "and 4 more" in message
    assert "known presets: " in message


def test_one_layer_resized_missing_or_added(refused, state, tmp_path):
    first, second = list(state)[:2]
    changed = {**state, first: torch.zeros(2, 2), "extra.weight": torch.zeros(1)}
    del changed[second]
    path = save(changed, tmp_path / "near.pth")
    with refused(CheckpointError, "checkpoint is not a siamrpn_alex_tiny") as caught:
        load_network(path)
    message = str(caught.value)
    assert f"1 missing ({second})" in message
    assert "1 unexpected (extra.weight)" in message
    assert f"1 of another shape ({first} (2, 2) for {tuple(state[first].shape)})" in message


def test_wrong_model(fails, tiny_checkpoint, work):
    message = fails("export", tiny_checkpoint, "-o", work / "out", "--model", "nanotrack_v2")
    assert message.startswith("checkpoint is not a nanotrack_v2")
    assert "the nearest preset is siamrpn_alex_tiny" in message


def test_unknown_model(fails, refused, tiny_checkpoint, work):
    message = fails("export", tiny_checkpoint, "-o", work / "out", "--model", "siamrpm")
    assert all(name in message for name in ("'siamrpm'", *PRESETS))
    with refused(SiamtrtError, "unknown model"):
        load_network(tiny_checkpoint, "siamrpm")


def test_ambiguous_model(fails, work):
    """The OTB and VOT versions of SiamRPN++ with AlexNet differ in their constants only."""
    save(PRESETS["siamrpn_alex_dwxcorr"].build().half().state_dict(), work / "alex.pth")
    message = fails("export", work / "alex.pth", "-o", work / "out")
    assert "siamrpn_alex_dwxcorr, siamrpn_alex_dwxcorr_otb" in message
    assert "--model siamrpn_alex_dwxcorr" in message.partition("Fix:")[2]


def test_archive_of_something_else(fails, work):
    with zipfile.ZipFile(work / "photos.pth", "w") as archive:
        archive.writestr("a.txt", "text")
    assert fails("export", work / "photos.pth", "-o", work / "out").startswith("unreadable checkpoint")
