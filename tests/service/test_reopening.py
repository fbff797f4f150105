"""A handle that is opened again after it failed, and not more often than once a second."""

import pytest

from siamtrt.service.reopening import RETRY_S, Reopening


class Handle:
    closed = False

    def close(self):
        self.closed = True
        raise OSError("a full disk tells it once more")


class Place:
    """Opens handles while it works."""

    def __init__(self):
        self.works, self.tries, self.handles = True, 0, []

    def __call__(self):
        self.tries += 1
        if not self.works:
            raise PermissionError(13, "not now")
        self.handles.append(Handle())
        return self.handles[-1]


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("siamtrt.service.reopening.time.monotonic", lambda: now[0])
    return now


def test_it_stays_open_while_it_works():
    place = Place()
    held = Reopening(place)
    assert place.tries == 0
    for _ in range(3):
        with held.use() as handle:
            assert handle is place.handles[0]
    held.close()
    held.close()
    assert place.handles[0].closed
    with held.use() as handle:
        assert handle is place.handles[1]


def test_after_an_error_it_is_opened_again_once_a_second(clock):
    place = Place()
    held = Reopening(place)
    with pytest.raises(OSError, match="full"), held.use():
        raise OSError(28, "full")
    assert place.handles[0].closed
    for _ in range(100):
        with pytest.raises(OSError, match="full") as caught, held.use():
            pass
        assert caught.value.errno == 28
    assert place.tries == 1
    clock[0] += RETRY_S
    place.works = False
    for _ in range(100):
        with pytest.raises(PermissionError, match="not now"), held.use():
            pass
    assert place.tries == 2
    clock[0] += RETRY_S
    place.works = True
    with held.use() as handle:
        assert not handle.closed


def test_uses_that_come_meanwhile_do_not_put_the_next_try_off(clock):
    place = Place()
    place.works = False
    held = Reopening(place)
    for _ in range(45):
        with pytest.raises(PermissionError), held.use():
            pass
        clock[0] += RETRY_S / 10
    assert place.tries == 5


def test_other_errors_leave_it_open():
    place = Place()
    held = Reopening(place)
    with pytest.raises(ValueError, match="mistake"), held.use():
        raise ValueError("a mistake")
    with held.use() as handle:
        assert not handle.closed
    assert place.tries == 1
