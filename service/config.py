"""The file behind `siamtrt serve CONFIG`: what is tracked, who may ask for what, and where results go."""

from __future__ import annotations

import ipaddress
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from siamtrt.backends import Backend
from siamtrt.config_files import Example, read_config
from siamtrt.errors import ServiceError
from siamtrt.service.jsonl import STDOUT, JsonlConfig
from siamtrt.service.mavlink import MavlinkConfig
from siamtrt.service.mqtt import MqttConfig
from siamtrt.service.udp import UdpConfig

LOG = logging.getLogger("siamtrt.service")
EXAMPLE = Example(ServiceError, "service.config.ServiceConfig", "what `siamtrt serve --example` prints")
MOST_THREADS = 64
SHORTEST_TOKEN = 16  # characters; 64 bits even if they are hexadecimal digits
LONGEST_TOKEN = 4096
NOT_A_FILE = ("://", " ! ")  # a URL's, a GStreamer pipeline's


@dataclass(frozen=True)
class HttpConfig:
    """Where the HTTP API listens; port 0 takes a free one.

    Attributes:
        token_file: its first line is asked of every client, in the header `Authorization: Bearer TOKEN`. Needed for a
            host beyond this machine.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    token_file: str | None = None


@dataclass(frozen=True)
class OutputsConfig:
    """Where results go, each any number of times; one MAVLink camera."""

    jsonl: tuple[JsonlConfig, ...] = ()
    udp: tuple[UdpConfig, ...] = ()
    mqtt: tuple[MqttConfig, ...] = ()
    mavlink: MavlinkConfig | None = None


@dataclass(frozen=True)
class ServiceConfig:
    """A service; relative paths in the file are relative to it.

    Attributes:
        source: camera index, URL, GStreamer pipeline, video file or folder of images.
        loop: a file begins again at its end.
        realtime: a file plays at its frame rate, frames not tracked in time dropped.
        bundle: the tracker; the default one where there is none.
        bundles: those that control may switch to, by name.
        threads: of the network on a CPU; None takes the backend's choice.
        watch: judge whether the target is still the one that was chosen, and search for it when it is lost.
        target: x, y, width, height in pixels, taken from the first frame; None waits for a command.
        http: None does not listen.
        unix: path of a Unix socket for the same API; only this user may connect.
        view: a page with the live video at `/view/`; for this machine alone.
    """

    source: str | int
    loop: bool = False
    realtime: bool = False
    bundle: str | None = None
    bundles: dict[str, str] = field(default_factory=dict)
    backend: Backend = "auto"
    threads: int | None = 1
    watch: bool = True
    target: tuple[float, ...] | None = None
    http: HttpConfig | None = field(default_factory=HttpConfig)
    unix: str | None = None
    view: bool = False
    outputs: OutputsConfig = field(default_factory=OutputsConfig)


EXAMPLE_TEXT = """\
# siamtrt serve CONFIG.yaml; relative paths are relative to this file.
source: flight.mp4          # video file, folder of images, camera index, URL (rtsp://...) or GStreamer pipeline
loop: true                  # a file begins again at its end
realtime: true              # a file plays at its frame rate, frames not tracked in time dropped
# bundle: tracker           # default: the tracker that comes with siamtrt
# bundles: {night: night}   # those that control may switch to, by name
backend: auto               # auto, tensorrt, onnxruntime, torch
threads: 1                  # of the network on a CPU
watch: true                 # judge whether the target is still there; search for it when it is lost
# target: [120, 80, 64, 48] # x, y, width, height in pixels of the first frame; without it a command chooses
http:
  host: 127.0.0.1           # any other than this machine's needs a token
  port: 8765
  # token_file: token       # its first line, at least 16 characters; chmod 600
# unix: siamtrt.sock        # the same API on a Unix socket, for this user only
# view: true                # a page with the live video at /view/; needs http without a token
outputs:
  jsonl: [{path: results.jsonl}]
  # udp: [{host: 127.0.0.1, port: 9000}]
  # mqtt: [{host: 127.0.0.1, topic: siamtrt/result}]
  # mavlink: {url: "udpout:127.0.0.1:14550"}
"""


def load_config(path: Path) -> ServiceConfig:
    """Read and check a YAML file; paths become absolute.

    Raises:
        ServiceError: unreadable, an unknown or missing field, a value out of range, a token that is missing.
    """
    tuples = (tuple[float, ...], tuple[JsonlConfig, ...], tuple[UdpConfig, ...], tuple[MqttConfig, ...])
    config = read_config(path, ServiceConfig, EXAMPLE, tuples=tuples)
    for mistake in _mistakes(config):
        raise EXAMPLE.unusable(path, mistake)
    config = _absolute(config, path.resolve().parent)
    if config.http:
        read_token(config.http)
    return config


def is_loopback(host: str) -> bool:
    """Whether a host is this machine's own; of a name only "localhost" is believed."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_token(http: HttpConfig) -> str | None:
    """The token that clients need; None where they need none.

    Raises:
        ServiceError: unreadable, too short, or not printable ASCII without spaces.
    """
    if http.token_file is None:
        return None
    path = Path(http.token_file)
    try:
        with path.open("rb") as file:
            token = file.readline(LONGEST_TOKEN + 2).rstrip(b"\r\n").decode("latin-1")
        readable = path.stat().st_mode & 0o044
    except OSError as error:
        raise _bad_token(path, error.strerror) from error
    if not SHORTEST_TOKEN <= len(token) <= LONGEST_TOKEN or not all("!" <= letter <= "~" for letter in token):
        raise _bad_token(path, f"a first line of {len(token)} characters")
    if readable:
        LOG.warning("token_file %s can be read by other users; chmod 600", path)
    return token


def _bad_token(path: Path, found: object) -> ServiceError:
    return ServiceError(
        "unusable token file", received=f"{path} ({found})",
        expected=f"a first line of {SHORTEST_TOKEN} to {LONGEST_TOKEN} ASCII characters without spaces",
        fix=f"openssl rand -hex 32 > {path.name}; chmod 600 {path.name}",
    )


def _mistakes(config: ServiceConfig) -> Iterator[str]:
    """What cannot be meant, in words that name the field."""
    http, target = config.http, config.target
    if config.source == "":
        yield "an empty source"
    if target is not None and (len(target) != 4 or not all(map(math.isfinite, target)) or min(target[2:]) <= 0):
        yield f"target {list(target)}, not x, y, width, height"
    if config.threads is not None and not 1 <= config.threads <= MOST_THREADS:
        yield f"threads {config.threads}, not within 1..{MOST_THREADS}"
    if http and not 0 <= http.port <= 65535:
        yield f"http.port {http.port}, not within 0..65535"
    if http and not http.host:
        yield "an empty http.host; 0.0.0.0 is every address of this machine"
    if http and not is_loopback(http.host) and http.token_file is None:
        yield f"http.host {http.host}, which others can reach, without http.token_file"
    if config.view and (http is None or http.token_file is not None):
        yield "view without http, or with http.token_file, which a browser has no way to send"
    if any(not name or len(name) > 64 or not name.isprintable() for name in config.bundles):
        yield "a name in bundles that is not 1 to 64 printable characters"


def _absolute(config: ServiceConfig, base: Path) -> ServiceConfig:
    def inside(path: Any) -> Any:
        return None if path is None else str(base / path)

    def written(path: str) -> str:
        return path if path == STDOUT else str(base / path)

    source, http, outputs = str(config.source), config.http, config.outputs
    mavlink = outputs.mavlink
    is_file = not source.isdecimal() and not any(mark in source for mark in NOT_A_FILE)
    return replace(
        config, source=inside(source) if is_file else source, bundle=inside(config.bundle),
        bundles={name: inside(bundle) for name, bundle in config.bundles.items()}, unix=inside(config.unix),
        http=http and replace(http, token_file=inside(http.token_file)),
        outputs=replace(
            outputs, jsonl=tuple(replace(row, path=written(row.path)) for row in outputs.jsonl),
            mqtt=tuple(replace(row, password_file=inside(row.password_file)) for row in outputs.mqtt),
            mavlink=mavlink and replace(mavlink, signing_key_file=inside(mavlink.signing_key_file)),
        ),
    )  # fmt: skip
