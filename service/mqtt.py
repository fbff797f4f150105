"""Results published to an MQTT broker."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siamtrt.errors import ServiceError
from siamtrt.service.addresses import check_address
from siamtrt.service.updates import Update

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessageInfo

KEEP_ALIVE_S = 10  # a broker that is silent for one and a half of these is gone
RETRY_S = (1, 8)  # between two tries to connect: first, longest
MOST_ON_THE_WAY = 32  # messages a connection may hold; the worker's newest follow
CONFIRM_S = 1.0  # for the oldest of them
FIRST_ANSWER_S = 0.4  # the first result waits so long for the connection
FAREWELL_S = 0.3  # of the half second that all outputs have to end
LARGEST_PASSWORD = 1 << 12  # bytes
LONGEST_TOPIC = 1 << 10  # bytes


@dataclass(frozen=True)
class MqttConfig:
    """A broker and a topic.

    Attributes:
        host: name or address.
        port: 1883 is usual, 8883 with TLS.
        topic: of the results; "online" and "offline" are retained under `topic/status`.
        username, password_file: where the broker asks for them; the file holds the password alone.
        tls: encrypted, the broker's certificate checked against the system's authorities.
        qos: 0 at most once, 1 at least once, 2 exactly once.
    """

    host: str
    port: int = 1883
    topic: str = "siamtrt/result"
    username: str | None = None
    password_file: str | None = None
    tls: bool = False
    qos: int = 0

    def __post_init__(self) -> None:
        check_address("MQTT output", self.host, self.port)
        topic_usable = self.topic.isprintable() and 0 < len(self.topic.encode("utf-8", "ignore")) <= LONGEST_TOPIC
        if not topic_usable or "+" in self.topic or "#" in self.topic:
            raise ServiceError(
                "unusable topic of the MQTT output", received=repr(self.topic),
                expected="a name like siamtrt/result, without + and #", fix="correct the topic",
            )
        if self.qos not in (0, 1, 2):
            raise ServiceError(
                "unusable qos of the MQTT output", received=self.qos, expected="0, 1 or 2", fix="correct qos"
            )
        if self.password_file is not None and self.username is None:
            raise ServiceError(
                "a password of the MQTT output without a user", received="password_file alone",
                expected="username as well", fix="add username, or leave password_file out",
            )


class MqttOutput:
    """Publishes each result while the broker is there; connects again by itself where it is not.

    Raises:
        ServiceError: an unreadable password file.
    """

    def __init__(self, config: MqttConfig) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.name = f"mqtt {config.host}:{config.port} {config.topic}"
        self._config, self._status_topic = config, f"{config.topic}/status"
        self._trouble, self._answer = "no answer yet", threading.Event()
        self._on_the_way: deque[MQTTMessageInfo] = deque()
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.reconnect_delay_set(*RETRY_S)
        self._client.will_set(self._status_topic, "offline", qos=1, retain=True)
        if config.username is not None:
            self._client.username_pw_set(config.username, _password(config.password_file))
        if config.tls:
            self._client.tls_set()
        self._client.on_connect = self._answered
        self._client.on_connect_fail = self._unanswered
        self._client.on_disconnect = self._disconnected
        self._client.connect_async(config.host, config.port, KEEP_ALIVE_S)
        self._client.loop_start()

    def send(self, update: Update) -> None:
        """Publish.

        Raises:
            ConnectionError: there is no broker at the moment; results are not kept for it.
            TimeoutError: it takes no more.
        """
        if not self._answer.is_set():
            self._answer.wait(FIRST_ANSWER_S)
            self._answer.set()
        if not self._client.is_connected():
            raise ConnectionError(f"not connected: {self._trouble}")
        self._make_room()
        message = self._client.publish(self._config.topic, update.encoded(), self._config.qos)
        if message.rc:
            raise ConnectionError(f"not published: {message.rc.name}")
        self._on_the_way.append(message)

    def close(self) -> None:
        """Say "offline" and disconnect; waits a moment for what is on the way.

        paho's thread ends by itself within seconds, and nobody need wait for that.
        """
        try:
            if self._client.is_connected():
                self._on_the_way.append(self._client.publish(self._status_topic, "offline", qos=1, retain=True))
                deadline = time.monotonic() + FAREWELL_S
                for message in self._on_the_way:
                    if not message.rc:
                        message.wait_for_publish(max(deadline - time.monotonic(), 0.0))
        finally:
            self._client.disconnect()

    def _make_room(self) -> None:
        """Wait until few messages are on the way: paho's own queue has no bound at QoS 0."""
        while self._on_the_way:
            oldest = self._on_the_way[0]
            if len(self._on_the_way) >= MOST_ON_THE_WAY and not oldest.rc:
                oldest.wait_for_publish(CONFIRM_S)
            if not oldest.rc and not oldest.is_published():
                break
            self._on_the_way.popleft()
        if len(self._on_the_way) >= MOST_ON_THE_WAY:
            raise TimeoutError(f"the broker takes nothing, {MOST_ON_THE_WAY} messages wait")

    def _answered(self, client: Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._trouble = f"refused: {reason}" if reason.is_failure else ""
        if not self._trouble:
            client.publish(self._status_topic, "online", qos=1, retain=True)
        self._answer.set()

    def _unanswered(self, client: Client, userdata: Any) -> None:
        # paho does not say why, but calls this while it handles the error.
        self._trouble = str(sys.exc_info()[1] or "no answer")
        self._answer.set()

    def _disconnected(self, client: Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if not self._trouble.startswith("refused"):
            self._trouble = f"connection lost: {reason}"


def _password(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        with Path(path).open("rb") as file:
            password = file.read(LARGEST_PASSWORD + 1).decode("utf-8").rstrip("\r\n")
        if 0 < len(password) <= LARGEST_PASSWORD and "\0" not in password:
            return password
        reason = "empty or too long"
    except OSError as error:
        reason = error.strerror or str(error)
    except UnicodeDecodeError:
        reason = "not UTF-8"
    raise ServiceError(
        "no password for the MQTT output", received=f"{path} ({reason})", expected="a file that holds the password",
        fix="correct password_file, or make it readable for this user",
    )
