"""Results through a real MQTT broker, which comes late, goes, comes back, refuses or stops reading."""

import asyncio
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import time

import pytest
from service_updates import FRAME, update_of, wait_for

from siamtrt.errors import ServiceError
from siamtrt.service import mqtt as mqtt_module
from siamtrt.service.faults import Faults
from siamtrt.service.loop import END_S
from siamtrt.service.mqtt import MqttConfig, MqttOutput
from siamtrt.service.worker import OutputListener

amqtt_broker = pytest.importorskip("amqtt.broker", reason="needs the dev extra")
paho = pytest.importorskip("paho.mqtt.client", reason="needs the mqtt extra")
LOGIN = "amqtt.plugins.authentication.FileAuthPlugin"
ANYBODY = "amqtt.plugins.authentication.AnonymousAuthPlugin"
CONNACK = b"\x20\x02\x00\x00"  # accepted
RESULTS, STATUS = "siamtrt/result", "siamtrt/result/status"


BROKER = """
import asyncio, sys
from amqtt.broker import Broker
async def serve():
    await Broker({"listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{sys.argv[1]}"}}}).start()
    print("ready", flush=True)
    await asyncio.Event().wait()
asyncio.run(serve())
"""


class Broker:
    """amqtt's broker in a thread of its own."""

    def __init__(self, port, plugins, **listener):
        listener = {"type": "tcp", "bind": f"127.0.0.1:{port}", **listener}
        self._config = {"listeners": {"default": listener}, "plugins": plugins}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._call(self._start())

    def _call(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _start(self):
        self._broker = amqtt_broker.Broker(self._config)
        await self._broker.start()

    def stop(self):
        self._call(self._broker.shutdown())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()


@pytest.fixture
def port():
    with socket.socket() as link:
        link.bind(("127.0.0.1", 0))
        return link.getsockname()[1]


@pytest.fixture
def start_broker(port):
    brokers = []

    def started(plugins=None, **listener):
        brokers.append(Broker(port, plugins or {ANYBODY: {"allow_anonymous": True}}, **listener))

    yield started
    for broker in brokers:
        broker.stop()


@pytest.fixture
def start_process(port):
    """Starts brokers in processes, which can be killed."""
    processes = []

    def started():
        process = subprocess.Popen([sys.executable, "-c", BROKER, str(port)], stdout=subprocess.PIPE)
        processes.append(process)
        assert process.stdout.readline() == b"ready\n"
        return process

    yield started
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def subscribe(port):
    """Subscribers that keep what comes: (topic, payload)."""
    clients = []

    def subscribed():
        client, received, ready = paho.Client(paho.CallbackAPIVersion.VERSION2), [], threading.Event()
        client.on_message = lambda _, __, message: received.append((message.topic, message.payload))
        client.on_subscribe = lambda *_: ready.set()
        client.connect("127.0.0.1", port)
        client.subscribe("siamtrt/#", qos=1)
        client.loop_start()
        clients.append(client)
        assert ready.wait(5)
        return received

    yield subscribed
    for client in clients:
        client.disconnect()
        client.loop_stop()


@pytest.fixture
def listen(port, monkeypatch):
    monkeypatch.setattr(mqtt_module, "RETRY_S", (0.1, 0.2))
    listeners = []

    def listening(**settings):
        faults = Faults()
        output = MqttOutput(MqttConfig("127.0.0.1", port, **settings))
        listeners.append(OutputListener(output, faults))
        return output, listeners[-1], faults

    yield listening
    for listener in listeners:
        listener.close()
        listener.ended(1)


def connected(output):
    return wait_for(output._client.is_connected)


def frames_in(received):
    return [json.loads(payload)["frame"] for topic, payload in received if topic == RESULTS]


def states_in(received):
    return [payload.decode() for topic, payload in received if topic == STATUS]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_results_arrive_in_order_and_all_before_the_end(start_broker, subscribe, listen, qos):
    start_broker()
    received = subscribe()
    output, listener, faults = listen(qos=qos)
    for number in range(100):  # from the first on, which comes before the broker's answer
        listener.take(update_of(number), FRAME)
    listener.close()
    assert listener.ended(END_S if qos == 0 else 5)  # amqtt takes some milliseconds to confirm one
    assert wait_for(lambda: "offline" in states_in(received) and len(frames_in(received)) == 100)
    assert frames_in(received) == list(range(100))
    assert json.loads(next(payload for topic, payload in received if topic == RESULTS)) == update_of(0).as_json()
    assert states_in(received) == ["online", "offline"]
    assert faults.seen() == []
    assert wait_for(lambda: output._client._thread is None)


def test_a_broker_that_is_not_there_yet_is_waited_for(start_broker, subscribe, listen):
    before = time.monotonic()
    output, listener, faults = listen()
    assert time.monotonic() - before < 1
    assert wait_for(lambda: listener.take(update_of(0), FRAME) or "refused" in str(faults.seen()))
    (failed,) = faults.seen()
    assert failed.kind == "output_failed"
    assert failed.told == f"{output.name}: ConnectionError: not connected: [Errno 111] Connection refused"
    start_broker()
    received = subscribe()
    assert connected(output)
    listener.take(update_of(7), FRAME)
    assert wait_for(lambda: frames_in(received) == [7])  # what was lost before is not sent late


def test_results_flow_again_after_the_broker_was_killed_and_started_again(start_process, subscribe, listen):
    broker = start_process()
    output, listener, faults = listen()
    assert connected(output)
    listener.take(update_of(0), FRAME)
    broker.kill()
    assert wait_for(lambda: listener.take(update_of(1), FRAME) or "connection lost" in str(faults.seen()))
    assert wait_for(lambda: listener.take(update_of(1), FRAME) or "refused" in str(faults.seen()))
    start_process()
    received = subscribe()
    assert wait_for(lambda: listener.take(update_of(2), FRAME) or 2 in frames_in(received))
    assert "online" in states_in(received)
    assert set(faults.counts()) == {"output_failed"}


def test_the_broker_tells_others_that_a_process_is_gone(start_broker, subscribe, listen):
    start_broker()
    received = subscribe()
    output, _, _ = listen()
    assert wait_for(lambda: states_in(received) == ["online"])
    output._client.socket().shutdown(socket.SHUT_RDWR)  # as when the process is killed
    assert wait_for(lambda: "offline" in states_in(received))
    late = subscribe()
    assert wait_for(lambda: states_in(late))  # retained


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_the_quality_of_service_is_the_config_s(port, listen, qos):
    with socket.create_server(("127.0.0.1", port)) as server:
        _, listener, _ = listen(qos=qos)
        link, _ = server.accept()
        with link:
            link.recv(1024)
            link.sendall(CONNACK)
            listener.take(update_of(0), FRAME)
            sent = b""
            while not (found := re.search(rb"(.)..\x00\x0esiamtrt/result(?!/)", sent, re.S)):
                sent += link.recv(1024)
    assert found.group(1)[0] == 0x30 | qos << 1  # PUBLISH (MQTT 3.1.1, sec. 3.3.1)


def test_a_broker_that_stops_reading_costs_bounded_memory_and_delays_no_end(port, listen, monkeypatch):
    monkeypatch.setattr(mqtt_module, "CONFIRM_S", 0.05)
    with socket.create_server(("127.0.0.1", port)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        output, listener, faults = listen()
        link, _ = server.accept()
        with link:
            link.recv(1024)
            link.sendall(CONNACK)  # and then nothing
            assert connected(output)
            output._client.socket().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

            def takes_nothing():
                for _ in range(500):
                    listener.take(update_of(0), FRAME)
                return {"output_failed", "output_behind"} <= set(faults.counts())

            assert wait_for(takes_nothing)
            assert "the broker takes nothing" in str(faults.seen())
            assert len(output._on_the_way) <= 32
            assert len(output._client._out_packet) <= 34
            before = time.monotonic()
            listener.close()
            listener.ended(END_S)
            assert time.monotonic() - before < END_S + 0.2


def test_the_end_does_not_wait_for_a_broker_that_is_not_there(listen):
    _, listener, faults = listen()
    before = time.monotonic()
    listener.close()
    assert listener.ended(END_S)
    assert time.monotonic() - before < END_S
    assert faults.seen() == []


def test_user_and_password_are_asked_for(start_broker, subscribe, listen, tmp_path):
    pwdlib = pytest.importorskip("pwdlib")
    from pwdlib.hashers.argon2 import Argon2Hasher

    right, wrong, users = tmp_path / "right", tmp_path / "wrong", tmp_path / "users"
    right.write_text("pass word\n")
    wrong.write_text("password")
    users.write_text(f"drone:{pwdlib.PasswordHash((Argon2Hasher(),)).hash('pass word')}\n")
    start_broker({LOGIN: {"password_file": str(users)}})
    output, _, _ = listen(username="drone", password_file=str(right))
    refused, listener, faults = listen(username="drone", password_file=str(wrong))
    assert connected(output)
    assert wait_for(lambda: listener.take(update_of(0), FRAME) or "refused: Not authorized" in str(faults.seen()))
    assert not refused._client.is_connected()


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe", b"x" * 5000, b"a\0b"])
def test_a_password_file_without_a_password_is_refused(tmp_path, content):
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ServiceError, match="no password") as caught:
        MqttOutput(MqttConfig("127.0.0.1", username="drone", password_file=str(path)))
    assert "xxx" not in str(caught.value)


def test_an_encrypted_connection_needs_a_certificate_that_is_trusted(start_broker, listen, tmp_path, monkeypatch):
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=broker", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    start_broker(ssl=True, certfile=str(certificate), keyfile=str(key))
    _, listener, faults = listen(tls=True)
    assert wait_for(lambda: listener.take(update_of(0), FRAME) or "certificate verify failed" in str(faults.seen()))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    trusting, _, _ = listen(tls=True)
    assert connected(trusting)


def test_a_missing_package_has_its_name(monkeypatch):
    "localhost".encode("idna")  # imports its codec, before nothing can be imported
    for name in [name for name in sys.modules if name.partition(".")[0] == "paho"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [finder for finder in sys.meta_path if not hasattr(finder, "find_spec")])
    with pytest.raises(ModuleNotFoundError) as caught:
        MqttOutput(MqttConfig("127.0.0.1"))
    assert caught.value.name == "paho"


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"host": ""}, "address"), ({"port": 0}, "address"), ({"topic": ""}, "topic"), ({"topic": "a/#"}, "topic"),
        ({"topic": "a/+/b"}, "topic"), ({"topic": "a\0"}, "topic"), ({"topic": "x" * 2000}, "topic"),
        ({"qos": 3}, "qos"), ({"password_file": "password"}, "without a user"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_meant_are_refused(settings, match):
    with pytest.raises(ServiceError, match=match):
        MqttConfig(**{"host": "127.0.0.1", **settings})
