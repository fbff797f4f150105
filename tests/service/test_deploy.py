"""The files in deploy/ name what there is: command, config, folders, port, extras."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from siamtrt.cli import EXTRAS, main

tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
pytest.importorskip("aiohttp", reason="needs the serve extra")

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CONFIG_PLACE = "/etc/siamtrt/serve.yaml"


def _config():
    from siamtrt.service.config import load_config

    return load_config(DEPLOY / "serve.yaml")


def _unit():
    """Settings of the systemd unit, none of which is given twice."""
    lines = [line for line in (DEPLOY / "siamtrt.service").read_text().splitlines() if line[:1] not in ("", "#", "[")]
    pairs = [line.partition("=")[::2] for line in lines]
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def _containerfile():
    """(instruction, arguments), comments left out and lines joined."""
    text = re.sub(r"(?m)^#.*\n", "", (DEPLOY / "Containerfile").read_text()).replace("\\\n", "")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line]


def _all_of(instruction):
    return [arguments for name, arguments in _containerfile() if name == instruction]


def _strings(text):
    return re.findall(r'"([^"]*)"', text)


def test_the_config_is_one_that_serve_takes():
    result = CliRunner().invoke(main, ["serve", "--check", str(DEPLOY / "serve.yaml")])
    assert result.exit_code == 0, result.output
    assert _config().http.host == "127.0.0.1"


def test_what_the_config_leaves_out_is_written_as_serve_takes_it(tmp_path):
    """Every line that can be uncommented, uncommented."""
    text = (DEPLOY / "serve.yaml").read_text().replace("/run/credentials/siamtrt.service/", "")
    path = tmp_path / "serve.yaml"
    path.write_text(re.sub(r"(?m)^( *)# (?=\w+:| +[-\w])", r"\1", text))
    (tmp_path / "token").write_text("0123456789abcdef\n")
    (tmp_path / "token").chmod(0o600)
    from siamtrt.service.config import load_config

    config = load_config(path)
    assert Path(config.http.token_file) == tmp_path / "token"
    assert (config.target, config.unix) == ((120, 80, 64, 48), "/run/siamtrt/serve.sock")
    outputs = config.outputs
    assert (len(outputs.jsonl), len(outputs.udp), outputs.mqtt[0].tls, bool(outputs.mavlink)) == (1, 1, True, True)


def test_the_unit_runs_a_command_with_the_config_and_writes_where_it_may():
    unit = _unit()
    program, *arguments = unit["ExecStart"].split()
    assert Path(program).name == "siamtrt"
    assert arguments == ["serve", CONFIG_PLACE]
    assert arguments[0] in main.commands
    assert Path(_config().outputs.jsonl[0].path).parent == Path("/var/lib", unit["StateDirectory"])
    assert f"unix: /run/{unit['RuntimeDirectory']}/" in (DEPLOY / "serve.yaml").read_text()


def test_a_loop_that_hangs_is_ended_with_its_stacks_told_and_started_again():
    unit = _unit()
    assert int(unit["WatchdogSec"]) >= 5
    assert "PYTHONFAULTHANDLER=1" in unit["Environment"].split()
    assert (unit["Type"], unit["Restart"]) == ("notify", "on-failure")
    assert f"WatchdogSec={unit['WatchdogSec']}" in (ROOT / "docs" / "deploy.md").read_text()


def test_systemd_takes_the_unit(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    copy = tmp_path / "siamtrt.service"
    text = (DEPLOY / "siamtrt.service").read_text()
    copy.write_text(text.replace("/opt/siamtrt/bin/siamtrt", sys.executable))  # it must exist
    verified = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True)
    if "SYSTEMD_UNIT_PATH" in verified.stderr or "Failed to initialize manager" in verified.stderr:
        pytest.skip(f"systemd-analyze does not work here: {verified.stderr}")
    told = [line for line in verified.stderr.splitlines() if "siamtrt.service" in line]
    assert (verified.returncode, told) == (0, [])


def test_the_container_holds_every_folder_and_extra_and_runs_as_the_unit_does():
    copied = {name for line in _all_of("COPY") if "--from" not in line for name in line.split()[:-1]}
    listed = re.search(r"FOLDERS = \((.*?)\)", (ROOT / "setup.py").read_text(), re.S).group(1)
    assert {"pyproject.toml", "setup.py", "siamtrt", *re.findall(r'"(\w+)"', listed)} <= copied
    assert all((ROOT / name).exists() for name in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {project["readme"], *project["license-files"]} <= copied
    extras = re.search(r"pip install .*'\.\[(.*)\]'", " ".join(_all_of("RUN"))).group(1).split(",")
    assert set(extras) <= project["optional-dependencies"].keys()
    assert {EXTRAS[name] for name in ("aiohttp", "pymavlink", "paho")} <= set(extras)
    command = _strings(_all_of("ENTRYPOINT")[0]) + _strings(_all_of("CMD")[0])
    assert command == ["siamtrt", *_unit()["ExecStart"].split()[1:]]
    assert f"deploy/serve.yaml {CONFIG_PLACE}" in _all_of("COPY")
    assert _all_of("USER")[-1].isdecimal()
    assert int(_all_of("USER")[-1]) > 0


def test_the_health_check_asks_where_the_service_listens():
    (check,) = _all_of("HEALTHCHECK")
    http = _config().http
    assert f"http://{http.host}:{http.port}/health" in check
    compile(_strings(check)[-1], "HEALTHCHECK", "exec")
