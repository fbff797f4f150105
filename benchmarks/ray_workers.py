"""The sequences of an evaluation on a Ray cluster; its machines need the dataset, but no disk in common with this one.

A bundle goes to the machines that lack it, boxes and times come back, and this process alone writes files: what is done
when it ends, however it ends, is whole, and the next evaluation goes on from there.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
import os
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siamtrt.backends import Backend
from siamtrt.benchmarks.protocols import Protocol
from siamtrt.benchmarks.run_files import tracker_run
from siamtrt.benchmarks.supervised import VotRun
from siamtrt.benchmarks.tasks import Task, Track, save_outcome, track_sequence
from siamtrt.benchmarks.workers import THREADS, Failure, failure_of, open_tracker, rebuilt
from siamtrt.errors import BundleError, SiamtrtError, SourceError
from siamtrt.files import write_whole
from siamtrt.manifest import MANIFEST_NAME, load_manifest, verified_file
from siamtrt.packages import import_package
from siamtrt.runtime.tracker import Tracker

RETRIES = 3  # of a sequence whose worker or machine is lost
CONNECT_S = 5.0  # Ray itself waits for minutes for a machine that does not answer
CANCEL_S = 10.0  # in which workers are told to end
NAMED = ("auto", "local")  # addresses that Ray resolves: the cluster this machine belongs to; a new one on it


@dataclass(frozen=True)
class SentBundle:
    """A bundle under way: its path here, the names of its files, their digest, and one reference to all their bytes."""

    path: Path
    names: tuple[str, ...]
    sha256: str
    files: tuple[Any, ...]


def run_on_ray(tasks: Sequence[Task], address: str) -> Iterator[Task]:
    """Do every task on a cluster, write its files here, and yield it, in the order in which they are done.

    The files are what `run_tasks` writes. A sequence whose worker is lost is begun again, `RETRIES` times at most.

    Args:
        address: of a cluster, as `ray.init` takes it; a connection that this process has already is used instead.

    Raises:
        MissingPackageError: no Ray.
        SiamtrtError: no cluster there; what stopped a sequence, with its name; what the others are doing is dropped.
        RuntimeError: an error that is none of the user's, with its traceback.
    """
    if not tasks:
        return
    with _connected(address) as ray:
        one_of_each = {task.bundle: task for task in tasks}
        bundles = {bundle: _sent(ray, task) for bundle, task in one_of_each.items()}
        versions = {bundle: _versions(bundle, task.backend) for bundle, task in one_of_each.items()}
        remote = ray.remote(tracked_there)
        pending = {_submitted(remote, task, bundles[task.bundle], versions[task.bundle]): task for task in tasks}
        try:
            while pending:
                (ready,), _ = ray.wait(list(pending), num_returns=1)
                task = pending.pop(ready)
                save_outcome(task, _answer(ray, ready, task))
                yield task
        finally:
            _cancel(ray, list(pending))


def _cancel(ray: Any, unfinished: list[Any]) -> None:
    """End tasks; one on its way to a worker can miss its cancellation, so it is told again until it has ended."""
    stop = time.monotonic() + CANCEL_S
    while unfinished and time.monotonic() < stop:
        for reference in unfinished:
            ray.cancel(reference, force=True)
        _, unfinished = ray.wait(unfinished, num_returns=len(unfinished), timeout=1)


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    ray = import_package("ray", "an evaluation on a cluster")
    if ray.is_initialized():
        yield ray
        return
    _require_listener(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster that "local" starts reports to nobody
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise _no_cluster(address, str(error)) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _require_listener(address: str) -> None:
    if address in NAMED:
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise _no_cluster(address, repr(address))
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except (OSError, UnicodeError) as error:
        raise _no_cluster(address, str(error)) from error


def _no_cluster(address: str, received: str) -> SiamtrtError:
    return SiamtrtError(
        f"no Ray cluster at {address!r}", received=received, expected="HOST:PORT, ray://HOST:PORT or auto",
        fix="start one with `ray start --head`, or see `ray status` for its address",
    )


def _sent(ray: Any, task: Task) -> SentBundle:
    """A task's bundle, its graphs and engines verified, in Ray's store.

    Raises:
        BundleError: it is incomplete or edited.
    """
    manifest, bundle = load_manifest(task.bundle), task.bundle.absolute()
    hashes = {graph.file: graph.sha256 for graph in manifest.graphs.values()}
    if task.backend == "tensorrt":
        hashes.update({engine.file: engine.sha256 for engine in manifest.engines})
    files = {MANIFEST_NAME: (bundle / MANIFEST_NAME).read_bytes()}
    files.update({name: verified_file(bundle, name, sha256).read_bytes() for name, sha256 in hashes.items()})
    return SentBundle(bundle, tuple(files), _digest(files), (ray.put(files),))


def _digest(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\n{hashlib.sha256(files[name]).hexdigest()}\n".encode())
    return digest.hexdigest()


def _versions(bundle: Path, backend: Backend) -> dict[str, str]:
    return tracker_run(bundle, backend, THREADS, Protocol()).versions


def _submitted(remote: Any, task: Task, bundle: SentBundle, versions: dict[str, str]) -> Any:
    """A reference to what `tracked_there` will return. Paths go as absolute ones: a worker has a folder of its own."""
    sequence = task.sequence
    images = tuple(path.absolute() for path in sequence.images)
    there = dataclasses.replace(sequence, frames=sequence.frames.absolute(), images=images)
    place = remote.options(num_cpus=THREADS, num_gpus=int(task.backend == "tensorrt"), max_retries=RETRIES)
    return place.remote(dataclasses.replace(task, sequence=there), bundle, versions)


def tracked_there(task: Task, bundle: SentBundle, versions: dict[str, str]) -> Track | VotRun | Failure:
    """On a worker: a task's boxes and times, or what stopped it.

    Args:
        versions: of the packages that compute, where the results are written.
    """
    import cv2

    cv2.setNumThreads(THREADS)
    try:
        if not task.sequence.frames.exists():
            raise SourceError(
                "a Ray worker lacks the dataset", received=f"no {task.sequence.frames} on {socket.gethostname()}",
                expected="it at the same path on every machine", fix="copy or mount it there, or leave out --ray",
            )
        tracker, there = _opened(bundle, task.backend, task.watch)
        if there != versions:
            raise SiamtrtError(
                "a Ray worker has other versions", received=f"{_differing(there, versions)} on {socket.gethostname()}",
                expected=_differing(versions, there), fix="install the same there: others may give other boxes",
            )
        return track_sequence(task, tracker, task.sequence.open())
    except Exception as error:
        return failure_of(error)


def _differing(ours: dict[str, str], others: dict[str, str]) -> str:
    names = sorted({*ours, *others})
    return ", ".join(f"{name} {ours.get(name)}" for name in names if ours.get(name) != others.get(name))


@functools.lru_cache(maxsize=1)  # a worker does many sequences, and those of one tracker follow each other
def _opened(bundle: SentBundle, backend: Backend, watch: bool) -> tuple[Tracker, dict[str, str]]:
    """Its tracker, which then needs no file any more, and the versions that it runs with."""
    with bundle_here(bundle) as path:
        return open_tracker(path, backend, watch), _versions(path, backend)


@contextmanager
def bundle_here(bundle: SentBundle) -> Iterator[Path]:
    """The folder of a bundle on a worker: the same path where the same files are there, else one of its own.

    Raises:
        BundleError: what came is not what was sent.
    """
    try:
        here = {name: (bundle.path / name).read_bytes() for name in bundle.names}
    except OSError:
        here = {}
    if _digest(here) == bundle.sha256:
        yield bundle.path
        return
    import ray

    files = ray.get(bundle.files[0])
    if _digest(files) != bundle.sha256:
        raise BundleError(
            "the bundle was damaged on its way", received=f"sha256 {_digest(files)[:12]} on {socket.gethostname()}",
            expected=bundle.sha256[:12], fix="run the evaluation again",
        )
    with tempfile.TemporaryDirectory(prefix="siamtrt-") as folder:
        for name, data in files.items():
            (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
            write_whole(Path(folder) / name, data)
        yield Path(folder)


def _answer(ray: Any, ready: Any, task: Task) -> Track | VotRun:
    try:
        outcome: Track | VotRun | Failure = ray.get(ready)
    except ray.exceptions.RayError as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise SiamtrtError(
            f"{task.tracker} on {task.sequence.name}: Ray could not do it", received=lines[-1],
            expected="its boxes", fix="install the same siamtrt on every machine and check their memory; what is done "
            "is kept",
        ) from error  # fmt: skip
    if isinstance(outcome, Failure):
        raise rebuilt(outcome, task)
    return outcome
