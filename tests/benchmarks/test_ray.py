"""`siamtrt eval --ray`: the same files from a cluster, of one machine here."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("torch", reason="exporting the bundle needs the export extra")
pytest.importorskip("ray", reason="needs the ray extra")

import ray
from folders import snapshot, untimed, write_sequence
from ray import cloudpickle
from vanishing import vanishing

from siamtrt.benchmarks import ray_workers
from siamtrt.benchmarks.evaluate import Options, evaluate_bundles
from siamtrt.benchmarks.protocols import Protocol
from siamtrt.benchmarks.ray_workers import SentBundle, bundle_here, run_on_ray, tracked_there
from siamtrt.benchmarks.tasks import Task, Track
from siamtrt.cli import main
from siamtrt.default_tracker import default_bundle
from siamtrt.errors import BundleError, SiamtrtError, SourceError
from siamtrt.runtime.sequence import Sequence
from siamtrt.runtime.sequences import find_sequences

pytestmark = pytest.mark.xdist_group("ray")  # one worker: what the module sets up is costly

NAMES = ("Ball", "Car.2", "boat-1")


@pytest.fixture(scope="module")
def cluster():
    """The address of a cluster of two cores that this process has started, and is connected to."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error", object_store_memory=80 << 20
    )
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def dataset(short_video, tmp_path_factory):
    """Three parts of the short video, of 4, 6 and 8 frames."""
    root = tmp_path_factory.mktemp("dataset")
    for count, name in zip((4, 6, 8), NAMES, strict=True):
        write_sequence(root / name, short_video.frames[-count:], short_video.boxes_xywh[-count:])
    return root


@pytest.fixture(scope="module")
def undisturbed(tiny_bundle, dataset, tmp_path_factory):
    """What one run in one process leaves."""
    results = tmp_path_factory.mktemp("undisturbed") / "results"
    evaluate_bundles([tiny_bundle], dataset, results)
    return results


def tasks_of(bundle, dataset, results):
    return [
        Task(bundle, "onnxruntime", sequence, results, "tiny", Protocol()) for sequence in find_sequences(dataset)
    ]


@dataclasses.dataclass(frozen=True)
class Deadly(Sequence):
    """A sequence that kills the process that opens it, as often as there are lives in a folder."""

    lives: Path = Path()

    def open(self):
        for life in self.lives.iterdir():
            life.unlink()
            os._exit(1)
        return super().open()


def deadly(task, folder, lives):
    folder.mkdir()
    for number in range(lives):
        (folder / str(number)).touch()
    fields = {field.name: getattr(task.sequence, field.name) for field in dataclasses.fields(Sequence)}
    return dataclasses.replace(task, sequence=Deadly(**fields, lives=folder))


@dataclasses.dataclass(frozen=True)
class Slow(Sequence):
    """A sequence that takes minutes."""

    def open(self):
        time.sleep(900)
        return super().open()


def slow(task):
    fields = {field.name: getattr(task.sequence, field.name) for field in dataclasses.fields(Sequence)}
    return dataclasses.replace(task, sequence=Slow(**fields))


def drivers():
    """The processes that are connected to the cluster."""
    return [job for job in ray._private.state.state.job_table() if not job["IsDead"]]


def test_the_same_files_as_in_one_process(cluster, tiny_bundle, dataset, undisturbed, tmp_path, monkeypatch):
    """Of a dataset and a bundle named from here; what is there already is not done again."""
    monkeypatch.chdir(dataset.parent)
    results = tmp_path / "results"
    bundle = Path(os.path.relpath(tiny_bundle))
    evaluation = evaluate_bundles([bundle], Path(dataset.name), results, Options(ray=cluster))
    assert untimed(results) == untimed(undisturbed)
    assert set(evaluation.trackers[0].update_ms) == set(NAMES)
    (results / "tiny" / "Ball.txt").unlink()
    before = (results / "tiny" / "boat-1.txt").stat().st_mtime_ns
    evaluate_bundles([tiny_bundle], dataset, results, Options(ray=cluster))
    assert untimed(results) == untimed(undisturbed)
    assert (results / "tiny" / "boat-1.txt").stat().st_mtime_ns == before


def test_a_bundle_is_read_once(cluster, tiny_bundle, dataset, tmp_path, monkeypatch):
    """Whatever the number of sequences."""
    sent = []
    really = ray_workers._sent
    monkeypatch.setattr(ray_workers, "_sent", lambda *given: sent.append(really(*given)) or sent[-1])
    (tmp_path / "results").mkdir()
    assert len(list(run_on_ray(tasks_of(tiny_bundle, dataset, tmp_path / "results"), cluster))) == len(NAMES)
    assert len(sent) == 1


def test_vots_runs(cluster, tiny_bundle, dataset, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    options = Options(protocol="realtime", latency_ms=101.0, interval=(2, 3))
    evaluate_bundles([tiny_bundle], dataset, one, options)
    evaluate_bundles([tiny_bundle], dataset, two, dataclasses.replace(options, ray=cluster))
    kept = [{path: data for path, data in snapshot(folder).items() if "_time" not in path} for folder in (one, two)]
    assert kept[0] == kept[1]
    assert any(path.endswith("_001.txt") for path in kept[0])


def test_watched(cluster, short_video, tmp_path):
    """Workers that had the plain tracker before follow with the other."""
    bundle = shutil.copytree(default_bundle(), tmp_path / "small")
    write_sequence(tmp_path / "data" / "gone", *vanishing(short_video.frames, short_video.boxes_xywh))
    for watch in (False, True):
        options = Options(watch=watch)
        evaluate_bundles([bundle], tmp_path / "data", tmp_path / "here", options)
        evaluate_bundles([bundle], tmp_path / "data", tmp_path / "there", dataclasses.replace(options, ray=cluster))
    found = untimed(tmp_path / "there")
    assert found == untimed(tmp_path / "here")
    assert found["small_watched/gone.txt"] != found["small/gone.txt"]


def test_a_lost_workers_sequence_is_done_by_another(cluster, tiny_bundle, dataset, undisturbed, tmp_path):
    first, *others = tasks_of(tiny_bundle, dataset, tmp_path / "results")
    (tmp_path / "results").mkdir()
    done = list(run_on_ray([deadly(first, tmp_path / "lives", 1), *others], cluster))
    assert {task.sequence.name for task in done} == set(NAMES)
    expected = {path: data for path, data in untimed(undisturbed).items() if not path.endswith("run.json")}
    assert untimed(tmp_path / "results") == expected


def test_a_sequence_that_costs_every_worker_is_given_up(cluster, tiny_bundle, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_workers, "RETRIES", 1)
    (task, *_) = tasks_of(tiny_bundle, dataset, tmp_path)
    with pytest.raises(SiamtrtError, match="tiny on Ball: Ray could not do it"):
        list(run_on_ray([deadly(task, tmp_path / "lives", 2)], cluster))


def test_what_stops_a_sequence_is_said_with_its_name(cluster, tiny_bundle, dataset, tmp_path):
    spoiled = shutil.copytree(dataset, tmp_path / "dataset")
    (spoiled / "Car.2" / "img" / "0003.png").write_text("no picture")
    with pytest.raises(SourceError, match=r"tiny on Car.2: unreadable image"):
        evaluate_bundles([tiny_bundle], spoiled, tmp_path / "results", Options(ray=cluster))
    assert not (tmp_path / "results" / "tiny" / "Car.2.txt").exists()


def test_a_worker_without_the_dataset(cluster, tiny_bundle, dataset, tmp_path):
    task = tasks_of(tiny_bundle, dataset, tmp_path)[0]
    elsewhere = dataclasses.replace(task, sequence=dataclasses.replace(task.sequence, frames=Path("/not/here")))
    with pytest.raises(SourceError, match=r"tiny on Ball: a Ray worker lacks the dataset: received no /not/here on .+"):
        list(run_on_ray([elsewhere], cluster))


def test_a_worker_with_other_versions(cluster, tiny_bundle, dataset, tmp_path):
    task = tasks_of(tiny_bundle, dataset, tmp_path)[0]
    sent = ray_workers._sent(ray, task)
    versions = ray_workers._versions(tiny_bundle, "onnxruntime")
    assert isinstance(tracked_there(task, sent, versions), Track)
    failure = tracked_there(task, sent, {**versions, "numpy": "0.1"})
    assert "other versions: received numpy 2" in failure.text.replace(f"numpy {np.__version__}", "numpy 2")
    assert "expected numpy 0.1" in failure.text


def test_a_bundle_goes_where_it_is_missing(cluster, tiny_bundle, dataset, tmp_path):
    """Or where another is at its path; what comes is what was sent, and nothing is left behind."""
    task = tasks_of(tiny_bundle, dataset, tmp_path)[0]
    sent = ray_workers._sent(ray, task)
    with bundle_here(sent) as path:
        assert path == tiny_bundle.absolute()
    other = shutil.copytree(tiny_bundle, tmp_path / "other")
    with (other / "search.onnx").open("ab") as file:
        file.write(b"\0")
    for place in (tmp_path / "absent", other):
        with bundle_here(dataclasses.replace(sent, path=place)) as path:
            assert path not in (tiny_bundle, place)
            assert {name: (path / name).read_bytes() for name in sent.names} == {
                name: (tiny_bundle / name).read_bytes() for name in sent.names
            }
        assert not path.exists()
    absent = dataclasses.replace(sent, path=tmp_path / "absent")
    versions = ray_workers._versions(tiny_bundle, "onnxruntime")
    assert isinstance(tracked_there(task, absent, versions), Track)


def test_a_bundle_damaged_on_its_way(cluster, tiny_bundle, dataset, tmp_path):
    sent = ray_workers._sent(ray, tasks_of(tiny_bundle, dataset, tmp_path)[0])
    contents = {**ray.get(sent.files[0]), "search.onnx": b"other"}
    damaged = SentBundle(tmp_path / "absent", sent.names, sent.sha256, (ray.put(contents),))
    with pytest.raises(BundleError, match="damaged on its way"), bundle_here(damaged):
        pass


def test_stopped_in_the_middle(cluster, tiny_bundle, dataset, undisturbed, tmp_path):
    """What is done is kept, and the rest is not gone on with."""
    first, second, third = tasks_of(tiny_bundle, dataset, tmp_path / "results")
    (tmp_path / "results").mkdir()
    running = run_on_ray([first, slow(second), slow(third)], cluster)
    assert next(running).sequence.name == first.sequence.name
    running.close()
    stop = time.monotonic() + 300
    while ray.available_resources().get("CPU") != 2 and time.monotonic() < stop:
        time.sleep(0.1)
    assert ray.available_resources()["CPU"] == 2
    assert set(untimed(tmp_path / "results")) == {"tiny", "tiny/Ball.txt"}


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_command_is_continued(cluster, tiny_bundle, dataset, undisturbed, tmp_path):
    """By a process of its own that connects to the cluster, and is stopped while others have all of its cores."""
    results = tmp_path / "results"
    shutil.copytree(undisturbed, results)
    (results / "tiny" / "Car.2.txt").unlink()
    left = snapshot(results)
    arguments = ["eval", str(tiny_bundle), "--dataset", str(dataset), "-o", str(results), "--ray", cluster]
    others = ray.remote(num_cpus=2)(lambda: time.sleep(900)).remote()
    process = subprocess.Popen(
        [sys.executable, "-m", "siamtrt.cli", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    stop = time.monotonic() + 300
    while len(drivers()) < 2 and process.poll() is None and time.monotonic() < stop:
        time.sleep(0.05)
    time.sleep(1)  # from connected to waiting for its sequence
    process.send_signal(signal.SIGINT)
    stderr = process.communicate(timeout=300)[1]
    ray.cancel(others, force=True)
    assert process.returncode == 130, stderr
    assert "interrupted" in stderr
    assert snapshot(results) == left
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert untimed(results) == untimed(undisturbed)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere", "host:", "host:99999", ":6379"])
def test_no_cluster_there(tiny_bundle, dataset, tmp_path, monkeypatch, address):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    start = time.monotonic()
    with pytest.raises(SiamtrtError, match="no Ray cluster at"):
        list(run_on_ray(tasks_of(tiny_bundle, dataset, tmp_path), address))
    assert time.monotonic() - start < 10


def test_without_ray(tiny_bundle, dataset, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    result = CliRunner().invoke(
        main, ["eval", str(tiny_bundle), "--dataset", str(dataset), "-o", str(tmp_path / "results"), "--ray", "auto"]
    )
    assert result.exit_code == 2
    assert "pip install 'siamtrt[ray]'" in result.stderr
    assert list(run_on_ray([], "auto")) == []


def test_workers_and_ray(tiny_bundle, dataset, tmp_path):
    for extra in (("--workers", "2"), ("--results", tmp_path)):
        bundles = [tiny_bundle] * (extra[0] == "--workers")
        arguments = ["eval", *bundles, "--dataset", dataset, "--ray", "auto", *extra, "-o", tmp_path / "results"]
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code == 2
        assert "--ray" in result.stderr
    assert not (tmp_path / "results").exists()
