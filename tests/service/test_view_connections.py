"""What the page's connections get, who gets none, and that no viewer holds up the loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import time
from urllib.parse import urlsplit

import aiohttp
import cv2
import numpy as np
import pytest
from service_updates import update_of, wait_for
from view_scene import BOX, PEAK, SIDE, SIZE, Scene, running_view, silence

from siamtrt.runtime.tracker import StageTimes
from siamtrt.service import view as view_module
from siamtrt.service.view import LARGEST_QUESTION, MOST_VIEWERS
from siamtrt.service.view_messages import COLUMNS, FRAMES, WIDEST, History, jpeg_of

QUESTION = bytes([0x81, 0x84, 0, 0, 0, 0]) + b"next"  # as it is sent: final, text, masked with zeros


def _read(message: bytes):
    """The text of a message, its curves, its response map and its picture."""
    (length,) = struct.unpack_from("<I", message)
    text = json.loads(message[4 : 4 + length])
    at = 4 + length
    curves = np.frombuffer(message, "<f4", 2 * text["history"], at).reshape(-1, 2)
    at += curves.nbytes
    response = np.frombuffer(message, np.uint8, text["response"] ** 2, at).reshape(2 * [text["response"]])
    return text, curves, response, message[at + response.size :]


def _asking(address: str, work, **options):
    """What `work(connection)` makes of a page's connection."""

    async def run():
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{address}socket", **options) as connection:
            return await asyncio.wait_for(work(connection), 10)

    return asyncio.run(run())


async def _next(connection):
    await connection.send_str("next")
    return await connection.receive()


@pytest.fixture(scope="module")
def address(running):
    with running.served() as page:
        yield page


def test_a_message_has_all_of_a_frame(running, address):
    assert wait_for(lambda: running.loop.snapshot().updates > 10)
    text, curves, response, jpeg = _read(_asking(address, _next).data)
    assert text["update"]["box_xywh"] == list(BOX)
    assert (text["update"]["status"], text["update"]["score"]) == ("locked", 0.75)
    assert [name for name, *_ in text["stages"]] == list(COLUMNS[1:])
    assert {name: values for name, *values in text["stages"]}["network"] == [4.0, 4.0]
    assert (len(curves), float(curves[-1, 0])) == (text["history"], 0.75)
    assert float(curves[-1, 1]) == pytest.approx(text["update"]["latency_ms"], abs=100)
    np.testing.assert_allclose(response, 255 * running.tracker.response, atol=0.6)
    assert (response.shape, np.unravel_index(response.argmax(), response.shape)) == ((SIDE, SIDE), PEAK)
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (SIZE[1], SIZE[0], 3)
    assert np.abs(picture.astype(int) - Scene().frame(text["update"]["frame"])).mean() < 8


def test_pictures_come_at_most_fifteen_times_a_second(address):
    async def watch(connection):
        start, numbers = time.monotonic(), []
        while time.monotonic() < start + 1.0:
            numbers.append(_read((await _next(connection)).data)[0]["update"]["frame"])
        return numbers

    numbers = _asking(address, watch)
    assert 5 <= len(numbers) <= 17
    assert numbers == sorted(set(numbers))


def test_one_picture_is_made_for_all_and_none_for_nobody(running, address, monkeypatch):
    made = []
    monkeypatch.setattr(view_module, "jpeg_of", lambda frame: made.append(time.monotonic()) or jpeg_of(frame))
    time.sleep(0.3)
    assert made == []

    async def three():
        async with aiohttp.ClientSession() as session:
            viewers = [await session.ws_connect(f"{address}socket") for _ in range(3)]
            for _ in range(5):
                answers = await asyncio.gather(*map(_next, viewers))
                assert len({answer.data for answer in answers}) == 1

    asyncio.run(three())
    assert len(made) <= 8
    time.sleep(0.2)
    made.clear()
    time.sleep(0.3)
    assert made == []


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}])
def test_other_sites_are_refused(address, headers):
    async def ask():
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(f"{address}socket", headers=headers)
            body = {"command": "stop"}
            async with session.post(f"{address}../control", headers=headers, json=body) as posted:
                return refused.value.status, posted.status

    assert asyncio.run(ask()) == (403, 403)


def test_the_page_allows_nothing_from_elsewhere(address):
    async def ask():
        async with aiohttp.ClientSession() as session:
            for name in ("", "view.css", "view.js", "view_draw.js", "view_drag.js"):
                async with session.get(address + name, headers={"Origin": address[:-6]}) as answer:
                    assert answer.status == 200
                    assert answer.headers["Content-Security-Policy"].startswith("default-src 'self';")
                    assert not [header for header in answer.headers if header.lower().startswith("access-control")]
            for name in ("view.py", "..%2fview.py", "__init__.py", "socket"):
                async with session.get(address + name) as answer:
                    assert answer.status in (400, 404)

    asyncio.run(ask())


def test_viewers_that_ask_for_nothing_are_sent_away(address, monkeypatch):
    monkeypatch.setattr(view_module, "UNASKED_S", 0.2)
    assert _asking(address, lambda connection: connection.receive()).type is aiohttp.WSMsgType.CLOSED


@pytest.mark.parametrize("question", ["more", "n" * (LARGEST_QUESTION + 1), b"next"], ids=["other", "long", "bytes"])
def test_other_questions_end_a_connection(address, question):
    async def ask(connection):
        await (connection.send_bytes if isinstance(question, bytes) else connection.send_str)(question)
        return await connection.receive()

    assert _asking(address, ask).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)


def test_more_viewers_than_there_may_be_are_told_so(address):
    async def ask():
        async with aiohttp.ClientSession() as session:
            viewers = [await session.ws_connect(f"{address}socket") for _ in range(MOST_VIEWERS)]
            one_more = await session.ws_connect(f"{address}socket")
            told = await one_more.receive()
            assert (told.data, told.extra) == (1013, "too many viewers")
            assert (await _next(viewers[0])).type is aiohttp.WSMsgType.BINARY
            await viewers.pop().close()
            again = await session.ws_connect(f"{address}socket")
            return (await _next(again)).type

    assert asyncio.run(ask()) is aiohttp.WSMsgType.BINARY


def _unread(address: str) -> socket.socket:
    """A viewer that asks again and again and never reads an answer."""
    place = urlsplit(address)
    viewer = socket.socket()
    viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    viewer.connect((place.hostname, place.port))
    viewer.sendall(
        f"GET /view/socket HTTP/1.1\r\nHost: {place.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c2lhbXRydCBzaWFtdHJ0IQ==\r\n\r\n".encode()
    )
    viewer.recv(12)
    viewer.sendall(QUESTION * 100)
    return viewer


def _is_gone(viewer: socket.socket) -> bool:
    """Whether the service has closed a viewer's connection."""
    try:
        viewer.sendall(QUESTION)
    except ConnectionError:
        return True
    return False


async def _many(connection):
    """What as many viewers get as there may be, this one among them."""
    async with aiohttp.ClientSession() as session:
        url = connection._response.url
        others = [await session.ws_connect(url, max_msg_size=0) for _ in range(MOST_VIEWERS - 1)]
        return [(await _next(viewer)).type for viewer in (connection, *others)]


def _are_many(address):
    """Whether there is room for that many; one too many is cut off, perhaps while it asks."""
    with contextlib.suppress(aiohttp.ClientError):
        return _asking(address, _many) == [aiohttp.WSMsgType.BINARY] * MOST_VIEWERS
    return False


def test_viewers_that_never_read_hold_up_nothing(monkeypatch):
    monkeypatch.setattr(view_module, "UNREAD_S", 1.0)
    size = (1280, 720)

    async def watch(connection):
        answers = [_read((await _next(connection)).data)[0]["update"] for _ in range(10)]
        return [answer["frame"] for answer in answers]

    with running_view(Scene(size, grain=1).frames()) as running, running.served() as address:
        stuck = [_unread(address) for _ in range(MOST_VIEWERS - 1)]
        frames = _asking(address, watch, max_msg_size=0)
        numbers, latencies = [], []
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            last = running.loop.snapshot().last
            numbers.append(last.number)
            latencies.append(last.latency_ms)
            time.sleep(0.005)
        assert frames == sorted(set(frames))
        assert np.median(latencies) < 10  # its pictures take some 20 ms, and a viewer that waits takes seconds
        assert numbers[-1] - numbers[0] > 20  # of 40
        assert wait_for(lambda: _are_many(address))
        for viewer in stuck:  # they were sent away, for others to take their places
            assert wait_for(lambda viewer=viewer: _is_gone(viewer))
            viewer.close()
        assert running.faults.seen() == []
        left = _unread(address)
        time.sleep(0.5)
    left.close()  # it did not hold up the server's end either


def test_viewers_are_told_of_the_end(running):
    async def ask(ending):
        async with aiohttp.ClientSession() as session:
            waiting, idle = [await session.ws_connect(f"{address}socket", max_msg_size=0) for _ in range(2)]
            await waiting.send_str("next")
            ended = asyncio.create_task(asyncio.to_thread(ending.close))
            told = [await idle.receive(), await waiting.receive()]
            while told[1].type is aiohttp.WSMsgType.BINARY:
                told[1] = await waiting.receive()
            await ended
            return [(answer.data, answer.extra) for answer in told]

    with contextlib.ExitStack() as ending:
        address = ending.enter_context(running.served())
        assert asyncio.run(ask(ending)) == [(1001, "the service has ended")] * 2


def test_a_source_without_frames_is_told_of():
    with running_view(silence()) as silent, silent.served() as address:
        text, curves, response, jpeg = _read(_asking(address, _next).data)
    assert (text["update"], len(curves), response.size, jpeg) == (None, 0, 0, b"")
    assert all(values == [None, None] for _, *values in text["stages"])


def test_history_keeps_the_last_frames_in_order():
    history = History()
    assert history.rows().shape == (0, len(COLUMNS))
    for number in range(FRAMES + 7):
        history.add(update_of(number, latency_ms=number, times=StageTimes(1, 2, 3, 4, 10)))
        assert history.rows()[:, 1].tolist() == list(range(max(0, number + 1 - FRAMES), number + 1))
    assert history.rows()[-1].tolist() == [0.875, FRAMES + 6, 10, 1, 2, 3, 4]
    history.add(update_of(0, status="idle", box_xywh=None, score=None))
    assert np.isnan(history.rows()[-1]).tolist() == [True, False, *[True] * 5]


@pytest.mark.parametrize("size", [(1, 1), (WIDEST, 7), (WIDEST + 1, 540), (4000, 1), (1920, 1080)])
def test_pictures_are_not_wider_than_a_page(size):
    frame = cv2.resize(np.array([[[0, 0, 255], [255, 0, 0]]], np.uint8), size, interpolation=cv2.INTER_LINEAR)
    picture = cv2.imdecode(np.frombuffer(jpeg_of(frame), np.uint8), cv2.IMREAD_COLOR)
    height, width = picture.shape[:2]
    assert width == min(size[0], WIDEST)
    assert height == max(1, round(size[1] * width / size[0]))
    assert np.abs(picture.astype(int) - cv2.resize(frame, (width, height))).mean() < 12
