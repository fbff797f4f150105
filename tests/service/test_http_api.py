"""What the API answers over a real socket, and which messages it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from served_loops import first_status, served, streaming
from service_loops import BOX
from service_updates import wait_for

from siamtrt.benchmarks.serve_process import ask, connected, control
from siamtrt.service import http_api, http_streams, metrics

DOCUMENT = Path(__file__).parents[2] / "docs" / "serve.md"
START = {"command": "start", "box": list(BOX)}


class TestReading:
    def test_health(self, run, address):
        assert wait_for(lambda: ask(address, "/health").json["last"])
        run.faults("stream_lost", "cut")
        for name in ("udp a", "jsonl b"):
            run.faults("output_failed", f"{name} is away", name)
        answer = ask(address, "/health")
        assert answer.status == 200
        assert answer.json["healthy"] is True
        assert answer.json["model"] == "quick"
        assert answer.json["last"]["status"] == "idle"
        assert answer.json["frames"]["captured"] > 0
        assert answer.json["faults"]["stream_lost"]["count"] == 1
        failed = answer.json["faults"]["output_failed"]
        assert (failed["count"], failed["last"]) == (2, "jsonl b: jsonl b is away")
        assert {name: one["last"] for name, one in failed["of"].items()} == {
            "udp a": "udp a is away", "jsonl b": "jsonl b is away",
        }  # fmt: skip
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"

    def test_without_frames_it_is_not_healthy(self, run, monkeypatch):
        monkeypatch.setattr(http_api, "HEALTHY_S", 0.2)
        with served(run) as address:
            run.step()
            assert ask(address, "/health").status == 200
            assert wait_for(lambda: ask(address, "/health").status == 503)
            assert ask(address, "/health").json["healthy"] is False
            run.step()
            assert ask(address, "/health").status == 200

    def test_metrics(self, run):
        """As Prometheus' own parser reads them."""
        with served(run) as address:
            for name in ("udp a", "jsonl b"):
                run.faults("output_failed", "away", name)
            run.step()
            future = run.loop.track(BOX)
            run.step(gap_s=1.0)
            future.result(5)
            for _ in range(3):
                run.step()
            answer = ask(address, "/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        families = list(text_string_to_metric_families(answer.body.decode()))
        values = {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}
        assert values["siamtrt_updates_total", "idle"] == 1
        assert values["siamtrt_updates_total", "locked"] == 4
        assert values["siamtrt_latency_seconds_count",] == 5
        assert values["siamtrt_stage_seconds_count", "network"] == 4
        assert values["siamtrt_stage_seconds_sum", "network"] == pytest.approx(0.016)
        assert values["siamtrt_frames_captured_total",] == 5
        assert values["siamtrt_frames_dropped_total",] == 3
        assert values["siamtrt_reconnects_total",] == 2
        assert values["siamtrt_gap_seconds_total",] == 1.5
        assert {name[1:]: value for name, value in values.items() if name[0] == "siamtrt_faults_total"} == {
            ("gap",): 1, ("output_failed",): 2,
        }  # fmt: skip
        assert values["siamtrt_target_status", "locked"] == 1
        assert values["siamtrt_target_status", "idle"] == 0
        assert values["siamtrt_target_score",] == 0.75
        assert values["siamtrt_last_frame_age_seconds",] >= 0
        assert values["process_resident_memory_bytes",] > 1e6
        assert values["process_open_fds",] > 3
        ours = {family.name for family in families if re.match(r"siamtrt_\w+(?<!_created)$", family.name)}
        assert ours == set(re.findall(r"`(siamtrt_\w+?)(?:_total)?[`{]", DOCUMENT.read_text(encoding="utf-8")))

    def test_metrics_asked_for_again_and_again_are_made_once(self, run, monkeypatch):
        made = []
        monkeypatch.setattr(metrics, "generate_latest", lambda registry: made.append(registry) or b"text\n")
        monkeypatch.setattr(metrics, "FRESH_S", 60.0)
        with served(run) as address:
            assert {ask(address, "/metrics").body for _ in range(5)} == {b"text\n"}
            assert len(made) == 1
            monkeypatch.setattr(metrics, "FRESH_S", 0.0)
            ask(address, "/metrics")
            assert len(made) == 2

    def test_the_newest_result(self, run):
        with served(run) as address:
            assert ask(address, "/result").json is None
            run.step()
            update = run.step()
            assert wait_for(lambda: run.loop.snapshot().last is update)
            assert ask(address, "/result").json == update.as_json()

    def test_the_stream_of_results(self, run):
        """Each result once, in order, to each of two readers."""
        with served(run) as address:
            readers = [connected(address) for _ in range(2)]
            lines = [streaming(reader) for reader in readers]
            for _ in range(5):
                run.step()
            for line in lines:
                assert [json.loads(next(line))["frame"] for _ in range(5)] == [0, 1, 2, 3, 4]
            for reader in readers:
                reader.close()

    def test_too_many_readers(self, run, monkeypatch):
        monkeypatch.setattr(http_api, "MOST_STREAMS", 1)
        monkeypatch.setattr(http_streams, "MOST_STREAMS", 1)
        monkeypatch.setattr(http_streams, "LOOK_S", 0.05)
        with served(run) as address:
            with connected(address) as reader:
                streaming(reader)
                assert ask(address, "/results").status == 503
            assert wait_for(lambda: first_status(address, "/results") == 200)


class TestControl:
    def test_start_reinit_and_stop(self, run, address):
        answer = control(address, START)
        assert (answer.status, answer.json) == (200, {"box_xywh": list(BOX)})
        assert wait_for(lambda: run.loop.snapshot().last.status == "locked")
        answer = control(address, {"command": "reinit", "box": [0.25, 0.5, 0.5, 0.25], "unit": "share"})
        assert answer.json == {"box_xywh": [16.0, 24.0, 32.0, 12.0]}
        assert (control(address, {"command": "stop"}).json, run.counts()) == ({}, {})
        assert wait_for(lambda: run.loop.snapshot().last.status == "idle")

    def test_switch(self, run, address):
        control(address, START)
        assert control(address, {"command": "switch", "bundle": "night"}).json == {"bundle": "night"}
        assert ask(address, "/health").json["model"] == "night"

    @pytest.mark.parametrize(
        ("message", "status", "error"),
        [
            (b"", 400, "not JSON"), (b"{", 400, "not JSON"), (b"\xff\xfe", 400, "not JSON"), (b"nul", 400, "not JSON"),
            (b"[" * 60_000, 400, "not JSON"), (b'{"a":' * 12_000, 400, "not JSON"),
            (b'{"command": "stop", "command": "stop"}', 400, "not JSON"),
            (b'{"command": "start", "box": [NaN, 1, 2, 3]}', 400, "not JSON"),
            (b'{"command": "start", "box": [1, 2, 3, -Infinity]}', 400, "not JSON"),
            (b"1" * 60_000, 400, "not JSON"), (b"[]", 400, "not a command"), (b'"start"', 400, "not a command"),
            (b"{}", 400, "unknown command"), (b'{"command": ["start"]}', 400, "unknown command"),
            (b'{"command": "Start"}', 400, "unknown command"),
            (b'{"command": "start"}', 400, "no usable box"),
            (b'{"command": "start", "box": "1,2,3,4"}', 400, "no usable box"),
            (b'{"command": "start", "box": [1, 2, 3]}', 400, "no usable box"),
            (b'{"command": "start", "box": [1, 2, 3, 4, 5]}', 400, "no usable box"),
            (b'{"command": "start", "box": [1, 2, 3, "4"]}', 400, "no usable box"),
            (b'{"command": "start", "box": [1, 2, 3, true]}', 400, "no usable box"),
            (b'{"command": "start", "box": [1, 2, 3, null]}', 400, "no usable box"),
            (b'{"command": "start", "box": [1, 2, 3, 1e999]}', 400, "no usable box"),
            (b'{"command": "start", "box": [1, 2, 3, 1' + b"0" * 400 + b"]}", 400, "no usable box"),
            (b'{"command": "start", "box": [1, 2, 3, [' + b"[" * 300 + b"]" * 300 + b"]]}", 400, "no usable box"),
            (b'{"command": "start", "box": [1, 2, 0, 4]}', 400, "empty box"),
            (b'{"command": "start", "box": [1, 2, 3, -4]}', 400, "empty box"),
            (b'{"command": "start", "box": [1, 2, 3, 4], "unit": "metres"}', 400, "unknown unit"),
            (b'{"command": "start", "box": [1, 2, 3, 4], "unit": ["pixels"]}', 400, "unknown unit"),
            (b'{"command": "start", "box": [1, 2, 3, 4], "when": "now"}', 400, "unknown field"),
            (b'{"command": "stop", "box": [1, 2, 3, 4]}', 400, "unknown field"),
            (b'{"command": "switch"}', 400, "no bundle named"),
            (b'{"command": "switch", "bundle": {}}', 400, "no bundle named"),
            (b'{"command": "switch", "bundle": "' + b"x" * 1000 + b'"}', 400, "no bundle named"),
            (b'{"command": "switch", "bundle": "../../etc"}', 404, "no such bundle"),
            (b'{"command": "switch", "bundle": "\\ud800"}', 404, "no such bundle"),
            (b'{"command": "switch", "bundle": "broken"}', 422, "bundle file search.onnx was changed"),
            (b'{"command": "start", "box": [900, 900, 4, 4]}', 422, "target box outside the frame"),
            (b" " * 70_000, 413, "no usable body"),
        ],
        ids=range(39),
    )  # fmt: skip
    def test_refused_messages(self, run, address, message, status, error):
        """With the four parts of every error, counted, and nothing changed."""
        answer = control(address, message)
        assert (answer.status, answer.json["error"]) == (status, error)
        assert all(answer.json[part] for part in ("expected", "fix"))
        assert len(answer.body) < 2000
        assert run.counts() == {"control_refused": 1}
        assert wait_for(lambda: run.loop.snapshot().last)
        assert run.loop.snapshot().last.status == "idle"

    @pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""])
    def test_other_kinds_of_content(self, run, address, kind):
        """Which pages of other sites may send without asking."""
        assert control(address, START, Content_Type=kind).status == 415
        assert run.counts() == {"control_refused": 1}

    def test_compressed_messages_are_none(self, run, address):
        assert control(address, b"\x1f\x8b\x08" + bytes(20), Content_Encoding="gzip").status == 400

    def test_without_frames_a_command_is_answered(self, run, monkeypatch):
        monkeypatch.setattr(http_api, "ANSWER_S", 0.1)
        with served(run) as address:
            answer = control(address, START)
            assert (answer.status, answer.json["error"]) == (504, "took too long")
            run.step()
            assert run.step().status == "idle"  # it came too late, and was not carried out
            assert run.counts() == {"control_refused": 1}

    def test_a_slow_message_is_given_up(self, run, monkeypatch):
        monkeypatch.setattr(http_api, "BODY_S", 0.1)
        with served(run) as address, connected(address) as link:
            head = "POST /control HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            link.sendall(f"{head}Content-Length: 40\r\n\r\n".encode() + b'{"comm')
            assert link.recv(100).startswith(b"HTTP/1.1 504")

    def test_commands_after_the_end(self, run):
        with served(run) as address:
            run.loop.stop()
            run.thread.join(5)
            answer = control(address, {"command": "stop"})
            assert (answer.status, answer.json["error"]) == (503, "the tracking loop has ended")

    def test_a_tracker_that_fails_at_its_start(self, run, address):
        run.tracker.failing = RuntimeError("out of memory")
        answer = control(address, START)
        assert (answer.status, answer.json["error"]) == (500, "the service failed")
        assert b"out of memory" not in answer.body
        assert run.counts() == {"http_failed": 1}


def test_every_fault_is_documented():
    """Those of MAVLink in a page of their own."""
    sources = (DOCUMENT.parents[1] / "service").glob("*.py")
    named = {kind for file in sources for kind in re.findall(r'aults\("(\w+)"', file.read_text(encoding="utf-8"))}
    assert len(named) > 15
    text = DOCUMENT.read_text(encoding="utf-8")
    assert {kind for kind in named if not kind.startswith("mavlink_") and f"`{kind}`" not in text} == set()
