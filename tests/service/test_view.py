"""The page in a real browser, without a screen: it shows what the loop is at, and passes on what the user wants."""

from __future__ import annotations

import itertools
import re
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from browsers import CONTRASTS, LEAST_CONTRAST, WIDTHS, Seen, open_page
from service_updates import wait_for
from view_page import CONNECT, DRAWN, HIDDEN, OPACITY, PIXELS
from view_scene import BOX, PEAK, SIDE, SIZE, running_view, silence

DRAGGED = (0.5, 0.3, 0.25, 0.4)  # in shares of the video
COLOURS = {"locked": (46, 229, 138), "uncertain": (255, 197, 61), "lost": (255, 107, 94)}


@pytest.fixture(scope="module")
def address(running):
    """Of its page."""
    with running.served() as page:
        yield page


@pytest.fixture(scope="module")
def pages(browser, address):
    """Opens the page at a width, once each; only the last one that was asked for is visible."""
    opened: dict[int, Seen] = {}

    def show(width: int) -> Seen:
        for other in opened.keys() - {width}:
            opened[other].page.evaluate(HIDDEN, True)
        if width in opened:
            opened[width].page.evaluate(HIDDEN, False)
            return opened[width]
        opened[width] = open_page(browser, address, width, has_touch=width < 500)
        return opened[width]

    return show


@pytest.fixture
def look(pages, running):
    """The page at a width, with the loop as at the start."""
    running.tracker.status = "locked"
    running.loop.track(BOX).result(5)

    def look_at(width: int = 1280) -> Seen:
        seen = pages(width)
        assert wait_for(lambda: seen.page.inner_text("#box").startswith("120, 90, 160 x 120"))
        _next_frames(seen.page)
        return seen

    return look_at


def _frame(page: Any) -> int:
    """The number of the frame shown, -1 before there is one."""
    return int(page.get_attribute("#overlay", "data-frame") or -1)


def _wait_for_frame(page: Any, number: int) -> None:
    assert wait_for(lambda: _frame(page) >= number)


def _next_frames(page: Any) -> None:
    _wait_for_frame(page, _frame(page) + 6)


def _in_shares(box: tuple[float, ...]) -> list[float]:
    return (np.array(box) / (*SIZE, *SIZE)).tolist()


def _drag(page: Any, box: tuple[float, ...]) -> None:
    area = page.locator("#overlay").bounding_box()
    x, y, w, h = box
    corners = [(area["x"] + u * area["width"], area["y"] + v * area["height"]) for u, v in ((x, y), (x + w, y + h))]
    page.mouse.move(*corners[0])
    page.mouse.down()
    page.mouse.move(*corners[1], steps=3)
    page.mouse.up()


def _settled(running: Any, box: tuple[float, ...], pixels: float = 3.0) -> bool:
    """Whether the loop came to track a box, given in shares of the frame."""
    return wait_for(lambda: np.abs(np.array(running.tracker.box) - np.array(box) * (*SIZE, *SIZE)).max() <= pixels)


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS.keys())
def test_it_is_readable(look, address, running, width):
    running.faults("tried", "a fault whose description is longer than a telephone is wide " + "x" * 80)
    page, said, asked = look(width)
    page.evaluate("document.getElementById('answer').textContent = 'no'")
    for scheme, status in (("light", "locked"), ("dark", "uncertain"), ("light", "lost"), ("dark", "invalid")):
        page.emulate_media(color_scheme=scheme)
        running.tracker.status = status
        page.wait_for_selector(f"#status.{status}")
        contrasts = page.evaluate(CONTRASTS)
        assert len(contrasts) > 40
        assert [row for row in contrasts if row[0] < LEAST_CONTRAST] == []
        (ground,) = page.evaluate("[getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)]")
        assert max(ground) < 50 if scheme == "dark" else min(ground) > 200
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert (said, {urlsplit(url).netloc for url in asked}) == ([], {urlsplit(address).netloc})


def test_frames_follow_each_other(look, running):
    page = look().page
    pictures = []
    for _ in range(3):
        *size, pixels = page.evaluate(PIXELS, "frame")
        assert tuple(size) == SIZE
        pictures.append(np.array(pixels)[..., :3])
        _next_frames(page)
    assert all(np.abs(one - other).mean() > 5 for one, other in itertools.pairwise(pictures))
    assert pictures[0].std() > 20
    assert running.loop.snapshot().last.number - _frame(page) < 20  # of 40 a second: it shows the present


@pytest.mark.parametrize("status", COLOURS)
def test_the_box_is_where_the_tracker_is(look, running, status):
    page = look().page
    running.tracker.status = status
    page.wait_for_selector(f"#status.{status}")
    assert page.inner_text("#status") == status
    assert page.inner_text("#box") == "120, 90, 160 x 120 px of 640 x 360"
    assert page.inner_text("#score") == ("0.75" if status == "locked" else "0.25")
    np.testing.assert_allclose(page.evaluate(DRAWN, COLOURS[status]), _in_shares(BOX), atol=0.006)
    assert all(page.evaluate(DRAWN, colour) is None for name, colour in COLOURS.items() if name != status)


def test_a_rotated_box_is_drawn_as_one(look, running, monkeypatch):
    page = look().page
    corners = np.array([(320, 40), (480, 180), (320, 320), (160, 180)])
    monkeypatch.setattr(running.tracker, "polygon", tuple(map(tuple, corners.tolist())))
    middles = (corners + np.roll(corners, 1, axis=0)) / 2 / SIZE
    assert wait_for(lambda: page.evaluate(OPACITY, middles[0].tolist()) > 250)
    assert all(page.evaluate(OPACITY, middle) > 250 for middle in middles.tolist())
    np.testing.assert_allclose(page.evaluate(DRAWN, COLOURS["locked"]), _in_shares((160, 40, 320, 280)), atol=0.006)
    upright = (200 / 640, 90 / 360), (160 / 640, 40 / 360)  # on the upper side of the box, and a corner around it
    assert [page.evaluate(OPACITY, place) for place in upright] == [0, 0]
    assert page.inner_text("#box").startswith("120, 90, 160 x 120")


def test_names_are_text(look):
    page = look().page
    assert page.inner_text("#what").startswith("still <b>life</b> on nothing, frames of a Python generator")


def test_numbers_and_faults_are_told(look, running):
    running.faults("camera_on_fire", "<i>hot</i>")
    page = look().page
    stages = dict(line.split("\t", 1) for line in page.inner_text("#stages").splitlines())
    assert (stages["crop"], stages["network"], stages["update"]) == ("1.00\t1.00", "4.00\t4.00", "7.00\t7.00")
    p50, p99 = map(float, stages["capture to result"].split())
    assert 0 < p50 <= p99
    counts = page.inner_text("#counts")
    assert all(name in counts for name in ("captured", "dropped", "reconnects"))
    assert re.search(r"camera_on_fire x 1, \d s ago: <i>hot</i>", page.inner_text("#faults"))


def test_response_map_and_curves_are_drawn(look):
    page = look().page
    _next_frames(page)
    width, height, pixels = page.evaluate(PIXELS, "response")
    assert (width, height) == (SIDE, SIDE)
    light = np.array(pixels)[..., :3].sum(axis=2)
    assert np.unravel_index(light.argmax(), light.shape) == PEAK
    assert len(np.unique(light)) > 5
    assert page.inner_text("#where") == "peak in column 10, row 5 of 13"
    assert page.inner_text("#peak") == "1.00"
    for chart in ("score-chart", "latency-chart"):
        line = page.get_attribute(f"#{chart} .line", "d")
        points = np.array([point.split() for point in line.replace("M", "L").split("L")[1:]], float)
        assert len(points) >= 5
        assert (points[:, 0] >= 0).all()
        assert points[-1, 0] == 300
        assert ((points[:, 1] >= 0) & (points[:, 1] <= 100)).all()
        assert page.locator(f"#{chart}").bounding_box()["height"] > 80
    score_now = float(page.get_attribute("#score-chart .line", "d").split()[-1])
    assert score_now in (25.0, 75.0)  # 100 is a score of 0


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS.keys())
def test_a_drag_takes_a_new_target(look, running, width):
    page, said, _ = look(width)
    _drag(page, DRAGGED)
    assert _settled(running, DRAGGED, 4.0)
    _next_frames(page)
    np.testing.assert_allclose(page.evaluate(DRAWN, COLOURS["locked"]), DRAGGED, atol=0.02)
    _drag(page, (0.7, 0.8, -0.4, -0.5))  # from the other corner
    assert _settled(running, (0.3, 0.3, 0.4, 0.5), 4.0)
    inits = len(running.tracker.inits)
    _drag(page, (0.5, 0.5, 0.002, 0.002))  # a click
    _next_frames(page)
    assert len(running.tracker.inits) == inits
    assert (page.inner_text("#answer"), said) == ("", [])


def test_a_finger_takes_a_new_target(look, running):
    page = look(390).page
    area = page.locator("#overlay").bounding_box()
    at = [
        {"x": area["x"] + (x + share * w) * area["width"], "y": area["y"] + (y + share * h) * area["height"]}
        for x, y, w, h in [DRAGGED] for share in (0.0, 0.5, 1.0)
    ]  # fmt: skip
    hand = page.context.new_cdp_session(page)
    for kind, points in (("Start", at[:1]), ("Move", at[1:2]), ("Move", at[2:]), ("End", [])):
        hand.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})
    assert _settled(running, DRAGGED, 4.0)
    assert page.evaluate("scrollY") == 0


def test_the_keyboard_takes_a_new_target(look, running):
    page = look().page
    page.focus("#overlay")
    for key in ("Enter", *["ArrowRight"] * 5, "ArrowDown", *["Shift+ArrowLeft"] * 3, "Shift+ArrowDown"):
        page.keyboard.press(key)
    inits = len(running.tracker.inits)
    assert page.evaluate(DRAWN, (255, 255, 255)) is not None
    page.keyboard.press("Enter")
    x, y, w, h = _in_shares(BOX)
    assert _settled(running, (x + 0.05, y + 0.01, w - 0.03, h + 0.01), 0.5)
    for key in ("Enter", "ArrowRight", "Escape"):
        page.keyboard.press(key)
    assert page.evaluate(DRAWN, (255, 255, 255)) is None
    _next_frames(page)
    assert len(running.tracker.inits) == inits + 1


def test_stop_forgets_the_target(look):
    page = look().page
    page.click("#stop")
    page.wait_for_selector("#status.idle")
    _next_frames(page)
    assert page.evaluate(DRAWN, COLOURS["locked"]) is None
    assert page.inner_text("#box") == "no target in 640 x 360 px"
    assert (page.inner_text("#score"), page.inner_text("#peak")) == ("-", "-")
    _drag(page, DRAGGED)
    page.wait_for_selector("#status.locked")


def test_what_is_refused_is_told(look, monkeypatch, running):
    def refuse(frame, box_xywh):
        raise RuntimeError("no such thing")

    monkeypatch.setattr(running.tracker, "init", refuse)
    page = look().page
    _drag(page, DRAGGED)
    assert wait_for(lambda: "the service failed: received RuntimeError" in page.inner_text("#answer"))


def test_a_hidden_page_asks_for_nothing(look):
    page = look().page
    page.evaluate(HIDDEN, True)
    assert wait_for(lambda: page.inner_text("#link") == "paused")
    frame, _ = _frame(page), page.wait_for_timeout(1200)  # longer than between attempts to connect
    assert _frame(page) == frame
    page.evaluate(HIDDEN, False)
    _wait_for_frame(page, frame + 10)


def test_pages_of_other_sites_get_no_connection(browser, look, address):
    port = urlsplit(address).port
    page = look().page
    assert page.evaluate(CONNECT, f"ws://127.0.0.1:{port}/view/socket") == "open"
    context = browser.new_context()
    other = context.new_page()
    other.goto(f"http://localhost:{port}/view/")  # another origin to a browser, though the same machine
    assert other.evaluate(CONNECT, f"ws://localhost:{port}/view/socket") == "open"
    assert other.evaluate(CONNECT, f"ws://127.0.0.1:{port}/view/socket") == "refused"
    context.close()


def test_the_page_comes_back_with_the_service(browser, running):
    context = browser.new_context()
    page = context.new_page()
    with running.served() as address:
        page.goto(address)
        _wait_for_frame(page, 0)
    page.wait_for_selector("#link.broken")
    frame = _frame(page)
    with running.served(urlsplit(address).port):
        _wait_for_frame(page, frame + 10)
        assert page.inner_text("#link") == "connected"
        assert page.locator(".broken").count() == 0
        context.close()


def test_a_source_without_frames_is_told_of(browser):
    context = browser.new_context()
    page = context.new_page()
    with running_view(silence()) as silent, silent.served() as address:
        page.goto(address)
        assert wait_for(lambda: page.inner_text("#link") == "no frames")
        assert page.inner_text("#what").startswith("still")
        context.close()
