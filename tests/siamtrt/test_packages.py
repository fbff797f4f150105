"""The table of packages beside the project's extras, and the error where one is missing."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from siamtrt.cli import main
from siamtrt.errors import MissingPackageError
from siamtrt.packages import PACKAGES, import_package


def test_every_package_of_an_extra_is_in_the_table():
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras = {"": project["dependencies"], **project["optional-dependencies"]}
    brought = {
        (re.match(r"[\w-]+", one)[0], extra) for extra, lines in extras.items() if extra != "dev" for one in lines
    }
    listed = {(package.distributions[0], package.extra) for package in PACKAGES}
    assert brought - listed == {("siamtrt", "train"), ("click", ""), ("dacite", ""), ("tqdm", "")}
    assert listed <= brought


@pytest.mark.parametrize("module", ["matplotlib", "matplotlib.figure"])
def test_a_missing_package_names_its_extra(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingPackageError, match=r"^the plot needs matplotlib: received") as caught:
        import_package(module, "the plot", ", or leave it out")
    assert caught.value.expected == "the report extra"
    assert caught.value.fix == "pip install 'siamtrt[report]', or leave it out"


def test_a_command_names_the_extra_it_needs(monkeypatch, tmp_path):
    def absent(*_, **__):
        raise ModuleNotFoundError("No module named 'onnxsim'", name="onnxsim")

    monkeypatch.setattr("siamtrt.info.describe_installation", absent)
    result = CliRunner().invoke(main, ["doctor"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("siamtrt: this command needs onnxsim: received no onnxsim; expected the export ")
    assert "pip install 'siamtrt[export]'; `siamtrt doctor`" in result.stderr
