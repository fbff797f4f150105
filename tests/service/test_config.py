"""The config of `siamtrt serve`: what it may say, and what it may not."""

from __future__ import annotations

import re

import pytest

from siamtrt.errors import ServiceError, SiamtrtError
from siamtrt.service.config import EXAMPLE_TEXT, HttpConfig, ServiceConfig, is_loopback, load_config, read_token
from siamtrt.service.jsonl import JsonlConfig
from siamtrt.service.mqtt import MqttConfig
from siamtrt.service.udp import UdpConfig

TOKEN = "0123456789abcdef"


@pytest.fixture
def loaded(tmp_path):
    def load(text):
        path = tmp_path / "service.yaml"
        path.write_text(text)
        return load_config(path)

    return load


@pytest.fixture
def refused(loaded):
    def check(text, mistake, kind=ServiceError):
        with pytest.raises(kind, match=mistake) as caught:
            loaded(text)
        assert caught.value.fix

    return check


def test_a_source_is_enough(loaded, tmp_path):
    assert loaded("source: flight.mp4") == ServiceConfig(str(tmp_path / "flight.mp4"))


def test_the_example(loaded, tmp_path):
    config = loaded(EXAMPLE_TEXT)
    assert config.outputs.jsonl == (JsonlConfig(str(tmp_path / "results.jsonl")),)
    assert (config.loop, config.realtime, config.http) == (True, True, HttpConfig())


def test_the_example_with_all_that_is_commented_out(loaded, tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    lines = re.sub(r"(?m)^( *)# (?=\w+: )", r"\1", EXAMPLE_TEXT).splitlines()
    everything = loaded("\n".join(line for line in lines if "token_file" not in line))
    assert everything.view
    config = loaded("\n".join(line for line in lines if not line.startswith("view")))
    assert config.bundle == str(tmp_path / "tracker")
    assert config.bundles == {"night": str(tmp_path / "night")}
    assert config.target == (120.0, 80.0, 64.0, 48.0)
    assert config.http == HttpConfig(token_file=str(tmp_path / "token"))
    assert config.unix == str(tmp_path / "siamtrt.sock")
    assert config.outputs.udp == (UdpConfig("127.0.0.1", 9000),)
    assert config.outputs.mqtt == (MqttConfig("127.0.0.1", topic="siamtrt/result"),)
    assert config.outputs.mavlink.url == "udpout:127.0.0.1:14550"
    assert set(vars(config)) == set(re.findall(r"(?m)^(?:# )?(\w+):", EXAMPLE_TEXT))  # every field is in it


@pytest.mark.parametrize(
    ("source", "expected"),
    [("rtsp://camera/stream", "rtsp://camera/stream"), ("0", "0"), ("'2'", "2"),
     ("v4l2src ! appsink", "v4l2src ! appsink"), ("/data/flight.mp4", "/data/flight.mp4")],
)  # fmt: skip
def test_sources_that_are_not_relative_files(loaded, source, expected):
    assert loaded(f"source: {source}").source == expected


def test_paths_are_relative_to_the_config(loaded, tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    config = loaded("""
source: videos/a.mp4
bundle: ../b
http: {token_file: token}
outputs:
  jsonl: [{path: "-"}, {path: /abs.jsonl}, {path: r.jsonl}]
  mqtt: [{host: localhost, username: me, password_file: secret}]
  mavlink: {signing_key_file: key}
""")
    assert config.source == str(tmp_path / "videos/a.mp4")
    assert config.bundle == str(tmp_path / "../b")
    assert [row.path for row in config.outputs.jsonl] == ["-", "/abs.jsonl", str(tmp_path / "r.jsonl")]
    assert config.outputs.mqtt[0].password_file == str(tmp_path / "secret")
    assert config.outputs.mavlink.signing_key_file == str(tmp_path / "key")


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("", "unusable config"), ("- source", "unusable config"), ("source: [", "unreadable config"),
        ("source: ''", "empty source"), ("{}", "source"), ("source: 1.5", "source"), ("source: yes", "source"),
        ("source: a\nsorce: b", "sorce"), ("source: a\nhttp: {hots: b}", "hots"), ("source: a\nloop: 1", "loop"),
        ("source: a\nbackend: gpu", "backend"), ("source: a\nthreads: 0", "threads 0"),
        ("source: a\nthreads: 65", "threads 65"), ("source: a\nbundles: [b]", "bundles"),
        ("source: a\nbundles: {'': b}", "a name in bundles"), ("source: a\nbundles: {night: 1}", "bundles"),
        ("source: a\ntarget: [1, 2, 3]", "target"), ("source: a\ntarget: [1, 2, 3, 0]", "target"),
        ("source: a\ntarget: [1, 2, .nan, 4]", "target"), ("source: a\ntarget: 1,2,3,4", "target"),
        ("source: a\nhttp: {port: 65536}", "http.port"), ("source: a\nhttp: {port: -1}", "http.port"),
        ("source: a\nhttp: {port: yes}", "http.port"), ("source: a\nhttp: {host: ''}", "empty http.host"),
        ("source: a\nhttp: {host: 0.0.0.0}", "without http.token_file"),
        ("source: a\nhttp: {host: '::'}", "without http.token_file"),
        ("source: a\nhttp: {host: camera.local}", "without http.token_file"),
        ("source: a\nhttp: {host: 127.0.0.1.evil.example}", "without http.token_file"),
        ("source: a\noutputs: {jsonl: {path: b}}", "outputs.jsonl"), ("source: a\noutputs: {csv: b}", "csv"),
        ("source: a\noutputs: {jsonl: [{}]}", "path"),
        ("source: &a b\nbundle: *a", "alias"),
    ],
)  # fmt: skip
def test_what_a_config_may_not_say(refused, text, mistake):
    refused(text, mistake)


@pytest.mark.parametrize("output", ["udp: [{host: a, port: 0}]", "mqtt: [{host: ''}]", "mavlink: {url: nothing}"])
def test_outputs_check_their_own(refused, output):
    refused(f"source: a\noutputs: {{{output}}}", None, SiamtrtError)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_hosts_of_this_machine(loaded, host):
    assert is_loopback(host)
    assert loaded(f"source: a\nhttp: {{host: '{host}'}}").http.host == host


@pytest.mark.parametrize("content", [b"0123456789abcdef\n", b"0123456789abcdef", b"0123456789abcdef\r\nmore\n"])
def test_a_token(loaded, tmp_path, content):
    (tmp_path / "token").write_bytes(content)
    config = loaded("source: a\nhttp: {host: 0.0.0.0, token_file: token}")
    assert read_token(config.http) == TOKEN


@pytest.mark.parametrize(
    "content", [None, b"", b"short", b"\n0123456789abcdef", b"0123456789 abcdef", b"\xff" * 32, b"x" * 5000],
    ids=["missing", "empty", "short", "second line", "space", "binary", "long"],
)  # fmt: skip
def test_what_is_no_token(refused, tmp_path, content):
    """Which the error does not repeat."""
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    refused("source: a\nhttp: {token_file: token}", r"unusable token file: received \S+token \([^x]*\); expected")


def test_a_token_that_others_can_read_is_warned_of(loaded, tmp_path, caplog):
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    loaded("source: a\nhttp: {token_file: token}")
    assert not caplog.records
    (tmp_path / "token").chmod(0o640)
    loaded("source: a\nhttp: {token_file: token}")
    assert "can be read by other users" in caplog.text
    assert TOKEN not in caplog.text
