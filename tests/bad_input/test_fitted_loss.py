"""Fitted loss detection that is damaged, of another tracker, or for one that cannot have it; the bundle stays."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
from toy import save_toy, toy_models

from siamtrt.manifest import load_manifest, save_manifest
from siamtrt.tracking import BlendedTemplate, LossDetection, Strategies

LOSS = LossDetection(0.2, 0.3, 0.1, 12.0, 0.7, uncertain=1.0, lost=-1.5, regained=0.25)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return save_toy(toy_models(), tmp_path_factory.mktemp("toy") / "toy")


@pytest.fixture
def bundle(toy, work):
    """In the directory that must stay as it was."""
    return shutil.copytree(toy, work / "toy")


@pytest.fixture
def fit(work):
    """A fit of the toy that would be taken."""
    content = {
        "model": "toy", "source": {"checkpoint": "none", "sha256": "0" * 64}, "videos": 5, "seed": 0, "held": 60,
        "missed": 60, "false_loss": 0.0, "false_lock": 0.0, "loss": dataclasses.asdict(LOSS),
    }  # fmt: skip
    (work / "fit.json").write_text(json.dumps(content))
    return work / "fit.json"


def edited(fit, *path_and_value):
    """With a value replaced, or removed where it is `...`."""
    content = place = json.loads(fit.read_text())
    *path, last, value = path_and_value
    for key in path:
        place = place[key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    fit.write_text(json.dumps(content))
    return fit


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "7", '"loss"', "\x00", "[" * 100_000, "{}", '{"loss": {}}'],
    ids=["empty", "cut", "list", "null", "number", "text", "zero", "deep", "nothing", "one"],
)
def test_damaged(fails, bundle, fit, text):
    fit.write_text(text)
    assert fails("loss", bundle, fit).startswith(f"no fitted loss detection: received {fit} (")


def test_unreadable(fails, bundle, fit, work):
    fit.write_bytes(b"\xff\xfe\x00")
    for path, problem in ((work / "absent", "No such file"), (work, "Is a directory"), (fit, "codec can't decode")):
        message = fails("loss", bundle, path)
        assert message.startswith(f"no fitted loss detection: received {path} (")
        assert problem in message


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("model", ...), "model"),
        (("source", ...), "source"),
        (("source", "sha256", ...), "sha256"),
        (("source", "size", 1), "size"),
        (("source", "toy"), "source"),
        (("loss", ...), "loss"),
        (("loss", None), "loss"),
        (("loss", "similarity", ...), "similarity"),
        (("loss", "threshold", 1), "threshold"),
        (("loss", "lost", "-1.5"), "lost"),
        (("loss", "lost", None), "lost"),
        (("loss", "lost", True), "True where a number belongs"),
        (("loss", "searches", True), "True where a number belongs"),
        (("loss", "searches", 5.5), "searches"),
        (("loss", "lost", 10**400), "too large"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value[:-1])),
)
def test_other_fields(fails, bundle, fit, change, problem):
    message = fails("loss", bundle, edited(fit, *change))
    assert message.startswith(f"no fitted loss detection: received {fit} (")
    assert problem in message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("score_weight", -0.1), ("similarity", float("nan")), ("regained", float("inf")), ("lost", 2.0), ("rate", 0),
        ("memory_rate", 1.5), ("searches", 0), ("rings", 0), ("psr_weight", 1e300),
    ],
)  # fmt: skip
def test_numbers_that_cannot_be(fails, bundle, fit, field, value):
    message = fails("loss", bundle, edited(fit, "loss", field, value))
    assert message.startswith(f"loss detection with numbers that cannot be: received {fit} (")
    assert message.endswith(f"fit again: python -m siamtrt.training.loss_fit {bundle} --data DIR -o {fit}")


@pytest.mark.parametrize("change", [("model", "nanotrack_v2"), ("source", "sha256", "1" + 63 * "0")])
def test_of_another_tracker(fails, bundle, fit, change):
    message = fails("loss", bundle, edited(fit, *change))
    other, sha256 = ("toy", "100000000000") if "sha256" in change else ("nanotrack_v2", 12 * "0")
    assert message.startswith(
        f"loss detection of another tracker: received {fit} of {other} from none, sha256 {sha256}; "
        f"expected one of toy from none, sha256 {12 * '0'}. Fix: name its bundle, or fit it: python"
    )


def test_trackers_that_cannot_have_it(fails, bundle, fit):
    """Said first: no fit would help."""
    manifest = load_manifest(bundle)
    save_manifest(dataclasses.replace(manifest, strategies=Strategies(template=BlendedTemplate(0.5, 0.1))), bundle)
    message = fails("loss", bundle, edited(fit, "model", "other"))
    assert message.startswith("this tracker cannot have loss detection: received toy, point head; expected a proposal")


def test_no_bundle(fails, fit, work):
    assert fails("loss", work / "absent", fit).startswith("not a bundle: received")
