"""Results as datagrams: sent whole, to IPv4 and IPv6, and no failure lasts longer than its cause."""

import json
import socket

import pytest
from service_updates import FRAME, update_of, wait_for

from siamtrt.errors import ServiceError
from siamtrt.service import reopening
from siamtrt.service.faults import Faults
from siamtrt.service.loop import END_S
from siamtrt.service.udp import UdpConfig, UdpOutput
from siamtrt.service.worker import OutputListener

NEVER_SPLIT = 508  # bytes of a datagram that every IPv4 network takes whole (RFC 791: 576, less the headers)


@pytest.fixture
def receiver():
    """Binds sockets that give up after five seconds."""
    links = []

    def bound(address="127.0.0.1", port=0):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        link = socket.socket(family, socket.SOCK_DGRAM)
        links.append(link)
        link.settimeout(5)
        link.bind((address, port))
        return link

    yield bound
    for link in links:
        link.close()


@pytest.fixture
def open_output():
    outputs = []

    def opened(host, port):
        outputs.append(UdpOutput(UdpConfig(host, port)))
        return outputs[-1]

    yield opened
    for output in outputs:
        output.close()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(reopening, "RETRY_S", 0.05)


def frame_in(link):
    return json.loads(link.recv(2048))["frame"]


def sends(output, number=0):
    """Whether a result was sent without an error."""
    try:
        output.send(update_of(number))
    except OSError:
        return False
    return True


def test_a_result_is_a_datagram(receiver):
    link, faults = receiver(), Faults()
    output = UdpOutput(UdpConfig("127.0.0.1", link.getsockname()[1]))
    assert output.name == f"udp 127.0.0.1:{link.getsockname()[1]}"
    listener = OutputListener(output, faults)
    for number in range(50):
        listener.take(update_of(number), FRAME)
    listener.close()
    assert listener.ended(END_S)
    assert json.loads(link.recv(2048)) == update_of(0).as_json()
    assert [frame_in(link) for _ in range(49)] == list(range(1, 50))
    assert faults.seen() == []


@pytest.mark.parametrize("host", ["::1", "localhost"])
def test_it_reaches_ipv6_and_names(receiver, open_output, host):
    try:
        link = receiver("::1" if host == "::1" else "127.0.0.1")
    except OSError:
        pytest.skip("no IPv6 here")
    open_output(host, link.getsockname()[1]).send(update_of(3))
    assert frame_in(link) == 3


def test_it_reaches_a_whole_network(receiver, open_output):
    link = receiver("0.0.0.0")
    open_output("127.255.255.255", link.getsockname()[1]).send(update_of(4))
    assert frame_in(link) == 4


def test_no_network_splits_the_longest_result(receiver, open_output):
    link = receiver()
    longest = update_of(
        2**53, time_s=-1e10 / 3, frame_size=(65535, 65535), status="uncertain", box_xywh=(-1e9 / 3,) * 4,
        score=1 / 3, latency_ms=1e9 / 3, gap_s=1e9 / 3, polygon_xy=((-1e9 / 3,) * 2,) * 4,
    )  # fmt: skip
    open_output("127.0.0.1", link.getsockname()[1]).send(longest)
    assert len(link.recv(2048)) < NEVER_SPLIT


def test_nobody_listening_is_told_and_nothing_is_missed_later(receiver, open_output):
    link = receiver()
    port = link.getsockname()[1]
    link.close()
    output = open_output("127.0.0.1", port)
    assert sends(output)  # the refusal comes with the next one
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError, match="nobody listens"):
            output.send(update_of(0))
    link = receiver(port=port)
    assert not sends(output, 7)  # of the one before: this one arrives
    assert sends(output, 8)
    assert (frame_in(link), frame_in(link)) == (7, 8)


def answers(*found):
    """A name server: an error, or an IPv4 address with a port, each time it is asked."""
    rest = list(found)

    def getaddrinfo(host, port, *_, **__):
        answer = rest.pop(0) if len(rest) > 1 else rest[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return getaddrinfo


NO_SUCH_HOST = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
NO_NAME_SERVER = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


def at(address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.SOCK_DGRAM, 17, "", (address, port)


def test_a_host_that_does_not_exist_is_refused_at_once(monkeypatch):
    monkeypatch.setattr("socket.getaddrinfo", answers(NO_SUCH_HOST))
    with pytest.raises(ServiceError, match=r"tracker-screen \(Name or service not known"):
        UdpOutput(UdpConfig("tracker-screen", 9000))


@pytest.mark.usefixtures("impatient")
def test_a_name_server_that_is_late_is_waited_for(monkeypatch, receiver, open_output):
    link = receiver()
    found = [at("127.0.0.1", link.getsockname()[1])]
    monkeypatch.setattr("socket.getaddrinfo", answers(NO_NAME_SERVER, NO_SUCH_HOST, found))
    output = open_output("tracker-screen", 9000)
    assert not sends(output)
    assert wait_for(lambda: sends(output, 5))
    assert frame_in(link) == 5


@pytest.mark.usefixtures("impatient")
def test_a_network_that_goes_down_is_looked_up_again(monkeypatch, receiver, open_output):
    link, asked = receiver(), []
    found = [at("127.0.0.1", link.getsockname()[1])]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: asked.append(1) or found)
    output = open_output("tracker-screen", 9000)
    assert sends(output, 0)
    with output._socket.use() as held:
        held.shutdown(socket.SHUT_WR)  # the nearest to an interface that is gone
    assert not sends(output, 1)
    assert wait_for(lambda: sends(output, 2))
    assert (frame_in(link), frame_in(link), len(asked)) == (0, 2, 2)


def test_of_both_kinds_of_address_the_older_is_taken(monkeypatch, receiver, open_output):
    link = receiver()
    port = link.getsockname()[1]
    monkeypatch.setattr("socket.getaddrinfo", answers([at("::1", port), at("127.0.0.1", port)]))
    open_output("tracker-screen", 9000).send(update_of(6))
    assert frame_in(link) == 6


@pytest.mark.parametrize(
    ("host", "port"),
    [("", 9000), ("a b", 9000), ("a\0b", 9000), ("a..b", 9000), ("x" * 64, 9000), ("a", 0), ("a", 65536)],
    ids=["empty", "space", "zero byte", "empty label", "long label", "port 0", "port 65536"],
)  # fmt: skip
def test_addresses_that_cannot_be_meant_are_refused(host, port):
    with pytest.raises(ServiceError, match="unusable address of the UDP output"):
        UdpConfig(host, port)
