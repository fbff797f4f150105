"""VOT's own toolkit, and the client of its protocol's package, run our default tracker as a process."""

from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("trax", reason="needs the vot extra")

import trax
from trax.client import Client
from vot_folders import polygon_line, write_list, write_vot_sequence

from siamtrt import Tracker
from siamtrt.cli import main
from siamtrt.default_tracker import default_bundle
from siamtrt.runtime.sequences import find_sequences

TEXT = {"rtol": 0, "atol": 1e-4}  # four decimals, then single precision
SERVER = (sys.executable, "-m", "siamtrt.cli", "trax")
HANG_SECONDS = 60  # of a process that takes half a second
STACK = "title: small\nexperiments:\n  plain:\n    type: unsupervised\n    repetitions: 2\n"


@pytest.fixture(scope="module")
def there_and_back(short_video):
    """24 frames and boxes off whole pixels."""
    frames = np.concatenate([short_video.frames, short_video.frames[::-1]])
    boxes = np.concatenate([short_video.boxes_xywh, short_video.boxes_xywh[::-1]]) + np.array([0.25, 0.5, 0, 0])
    return SimpleNamespace(frames=frames, boxes=boxes)


def tracked(frames, box):
    """Boxes and scores of the default tracker from the second frame on."""
    with Tracker.load() as tracker:
        tracker.init(frames[0], box)
        results = [tracker.update(frame) for frame in frames[1:]]
    return np.array([result.box_xywh for result in results]), np.array([result.score for result in results])


# --- VOT's toolkit


@pytest.fixture
def toolkit():
    """What `vot evaluate` is made of."""
    try:
        import numba

        numba.config.DISABLE_JIT = True  # compiling takes longer than all these tests
        from vot.experiment import run_experiment
        from vot.tracker import Registry
        from vot.workspace import Workspace
    except (ImportError, TypeError) as error:  # see test_against_vot_toolkit.py
        pytest.skip(f"the vot-toolkit is not installed, or does not import: {error}")
    return SimpleNamespace(run_experiment=run_experiment, Registry=Registry, Workspace=Workspace)


def printed_entry(*arguments):
    result = CliRunner().invoke(main, ["trax", "--print-ini", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def workspace(there_and_back, tmp_path):
    """Two sequences, one with polygons, and an experiment that runs each twice from its first frame."""
    frames, boxes = there_and_back.frames, there_and_back.boxes
    sequences = tmp_path / "sequences"
    write_vot_sequence(sequences / "ball", frames, [polygon_line(*box) for box in boxes], "")
    later = [",".join(f"{value:g}" for value in box) for box in boxes[4:]]
    write_vot_sequence(sequences / "later", frames[4:], later, "")
    write_list(sequences, "ball", "later")
    (tmp_path / "config.yaml").write_text("stack: ./stack.yaml\nregistry: [./trackers.ini]\n")
    (tmp_path / "stack.yaml").write_text(STACK)
    return tmp_path


@pytest.mark.parametrize("link", ["pipe", "socket"])
def test_the_toolkit_runs_the_default_tracker(toolkit, workspace, there_and_back, link):
    """Its boxes and confidences are ours on the same frames, from the boxes that `siamtrt eval` gives."""
    (workspace / "trackers.ini").write_text(printed_entry("ours") + f"socket = {link == 'socket'}\n")
    opened = toolkit.Workspace.load(str(workspace))
    (experiment,), tracker = opened.stack, opened.registry["ours"]
    toolkit.run_experiment(experiment, tracker, opened.dataset)
    first = {"ball": 0, "later": 4}
    for sequence in find_sequences(workspace / "sequences"):
        boxes, scores = tracked(there_and_back.frames[first[sequence.name] :], sequence.truth_xywh[0])
        runs = experiment.gather(tracker, opened.dataset[sequence.name])
        assert len(runs) == 2
        for run in runs:
            found = [[getattr(region, side) for side in ("x", "y", "width", "height")] for region in run.regions()[1:]]
            np.testing.assert_allclose(found, boxes, **TEXT)
            confidences = [run.properties(frame)["confidence"] for frame in range(1, len(run))]
            np.testing.assert_allclose(confidences, scores, rtol=1e-6)


def test_the_toolkit_reads_any_path(toolkit, tmp_path):
    bundle = shutil.copytree(default_bundle(), tmp_path / "my 100% bundle")
    (tmp_path / "trackers.ini").write_text(printed_entry("ours", bundle))
    tracker = toolkit.Registry([str(tmp_path)])["ours"]
    assert shlex.split(tracker.describe()["command"])[-2:] == ["trax", str(bundle.resolve())]


@pytest.mark.parametrize(("arguments", "part"), [(["my tracker"], "my tracker"), (["ours", "nowhere"], "not a bundle")])
def test_entries_that_would_not_work(tmp_path, arguments, part):
    result = CliRunner().invoke(main, ["trax", "--print-ini", *arguments])
    assert (result.exit_code, result.stdout) == (2, "")
    assert part in result.stderr


# --- any client


@contextmanager
def served():
    """A client of a process of ours, ended after a while whatever happens, and the process."""
    process = subprocess.Popen(SERVER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    alarm = threading.Timer(HANG_SECONDS, process.kill)
    alarm.start()
    client = None
    try:
        client = Client((process.stdin.fileno(), process.stdout.fileno()), log=lambda text: None)
        yield client, process
    finally:
        alarm.cancel()
        process.kill()
        if client:
            client.quit()  # one that is only dropped calls its log after that has gone
        process.communicate()


def quit_cleanly(client, process):
    client.quit()
    assert process.wait(HANG_SECONDS) == 0
    assert process.stderr.read() == b""


def started(client, image, region):
    """What the tracker says of a first frame: a region and its properties."""
    (answer,), _ = client.initialize(image, [(region, {})], {})
    return answer


def sent(kind, frame, folder):
    """A frame as a client has it."""
    if kind == "memory":
        return {"color": trax.MemoryImage.create(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))}
    data = cv2.imencode(".png", frame)[1].tobytes()
    if kind == "buffer":
        return {"color": trax.BufferImage.create(data)}
    path = folder / "a frame's 100%.png"
    path.write_bytes(data)
    return {"color": trax.FileImage.create(str(path))}


def test_frames_in_every_form_and_targets_one_after_another(there_and_back, tmp_path):
    frames = there_and_back.frames[:6]
    targets = {"path": there_and_back.boxes[0], "memory": (90, 60, 50, 30), "buffer": (65, 85, 30, 30)}
    with served() as (client, process):
        assert set(client.image_formats) == set(targets)
        for kind, box in targets.items():
            region, properties = started(client, sent(kind, frames[0], tmp_path), trax.Rectangle.create(*box))
            assert region.bounds() == pytest.approx(box)
            assert float(properties["confidence"]) == 1
            found = [client.frame(sent(kind, frame, tmp_path), {}, [])[0] for frame in frames[1:]]
            boxes, scores = tracked(frames, box)
            np.testing.assert_allclose([region.bounds() for ((region, _),) in found], boxes, **TEXT)
            np.testing.assert_allclose([float(said["confidence"]) for ((_, said),) in found], scores, rtol=1e-6)
        quit_cleanly(client, process)


def test_grey_pixels(there_and_back):
    """Of 16 bits the higher eight, as OpenCV reads files of them."""
    box = there_and_back.boxes[0]
    grey = [cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in there_and_back.frames[:3]]
    boxes, _ = tracked([cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR) for frame in grey], box)
    with served() as (client, process):
        for frames in (grey, [frame.astype(np.uint16) * 256 + 99 for frame in grey]):
            first, *images = ({"color": trax.MemoryImage.create(frame)} for frame in frames)
            started(client, first, trax.Rectangle.create(*box))
            found = [client.frame(image, {}, [])[0][0][0].bounds() for image in images]
            np.testing.assert_allclose(found, boxes, **TEXT)
        quit_cleanly(client, process)


def test_targets_of_other_shapes(there_and_back, tmp_path):
    """A mask and an upright polygon of its pixels give their bounding box, a leaning one the same box as for `eval`."""
    mask = np.zeros((240, 320), np.uint8)
    mask[40:60, 40] = mask[50, 30:55] = 1
    leaning = [(50.0, 40.0), (60.0, 30.0), (80.0, 50.0), (70.0, 60.0)]
    cases = [
        (trax.Mask.create(mask), (30, 40, 25, 20)),
        (trax.Polygon.create([(30.0, 40.0), (54.0, 40.0), (54.0, 59.0), (30.0, 59.0)]), (30, 40, 25, 20)),
        (trax.Polygon.create(leaning), (65 - 10, 45 - 10, 21, 21)),  # 400 of the bounding box's 900 square pixels
    ]
    with served() as (client, process):
        for region, expected in cases:
            found, _ = started(client, sent("path", there_and_back.frames[0], tmp_path), region)
            assert found.bounds() == pytest.approx(expected, abs=1e-4)
        quit_cleanly(client, process)


def test_a_client_is_told_why_it_ends(there_and_back, tmp_path):
    with served() as (client, process):
        image = sent("path", there_and_back.frames[0], tmp_path)
        with pytest.raises(trax.TraxException, match="target box outside the frame: received 500,0,10,10; expected"):
            started(client, image, trax.Rectangle.create(500, 0, 10, 10))
        assert process.wait(HANG_SECONDS) == 2
        assert process.stderr.read().startswith(b"siamtrt: target box outside the frame: received 500,0,10,10; ")


def test_a_service_managers_stop():
    with served() as (_, process):
        process.send_signal(signal.SIGTERM)
        assert process.wait(HANG_SECONDS) == 130
        assert process.stderr.read() == b"siamtrt: interrupted, nothing half-written\n"
