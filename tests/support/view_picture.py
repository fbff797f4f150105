"""The picture of `siamtrt view` in the README: python tests/support/view_picture.py docs/view.png."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from browsers import open_browser
from PIL import Image
from service_updates import wait_for

from siamtrt.training.scenes import write_scene_video

SEED, FRAMES = 3, 450
UNSEEN_S = 9.0  # the browser is to take no time from the frames shown
SIZE = {"width": 1100, "height": 800}
COLOURS = 256  # keeps the file below 200 kB


@contextmanager
def _viewed(clip: Path, box: str) -> Iterator[str]:
    """The address of the page of a clip."""
    command = [sys.executable, "-m", "siamtrt.cli", "view", clip.name, "--init", box, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=clip.parent) as viewing:
        assert viewing.stderr is not None
        found = re.search(r"http://\S+", viewing.stderr.readline())
        assert found is not None
        yield found[0]
        viewing.send_signal(signal.SIGTERM)


def main(path: Path) -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as folder, open_browser() as browser:
        clip = Path(folder) / "scene.mp4"
        boxes = write_scene_video(clip, SEED, FRAMES, (1280, 720))
        page = browser.new_page(viewport=SIZE)
        with _viewed(clip, boxes.read_text().splitlines()[0]) as address:
            time.sleep(UNSEEN_S)
            page.goto(address)
            assert wait_for(lambda: page.get_attribute("#overlay", "data-frame"))
            page.screenshot(path=Path(folder) / "page.png", full_page=True)
        picture = Image.open(Path(folder) / "page.png").convert("RGB")
        picture.quantize(COLOURS, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
