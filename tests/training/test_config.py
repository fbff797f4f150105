"""A config is read whole, or refused with the field that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from siamtrt.config_files import LARGEST_CONFIG
from siamtrt.errors import TrainingError
from siamtrt.training.config import load_config

GOOD = """model: siamrpn_mobilev2_small
output: ../out
data:
  - {path: set/a.json, format: stills, weight: 2}
  - {path: /data/b, format: sequences, span: 50}
schedule: {steps: 10, rate: 1e-3}
"""
SMALL = Path(__file__).resolve().parents[2] / "training" / "small.yaml"
NESTED = 6  # aliases; nine make a billion values


def load(tmp_path: Path, text: str):
    (tmp_path / "run.yaml").write_text(text)
    return load_config(tmp_path / "run.yaml")


def test_a_config_has_absolute_paths_and_defaults(tmp_path):
    config = load(tmp_path, GOOD)
    assert Path(config.output) == tmp_path / ".." / "out"
    assert [source.path for source in config.data] == [str(tmp_path / "set" / "a.json"), "/data/b"]
    assert [(source.weight, source.span) for source in config.data] == [(2.0, 100), (1.0, 50)]
    assert (config.schedule.rate, config.init, config.pairs.shift, config.appearance.flip) == (1e-3, "none", 64.0, 0.5)


def test_relative_paths_are_the_configs_whatever_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "run.yaml").write_text(GOOD + "init: start.safetensors\n")
    monkeypatch.chdir(tmp_path)
    config = load_config(Path("run.yaml"))
    assert config.init == str(tmp_path / "start.safetensors")
    assert config.data[0].path == str(tmp_path / "set" / "a.json")


def test_words_of_init_are_no_files(tmp_path):
    assert [load(tmp_path, f"{GOOD}init: {word}\n").init for word in ("imagenet", "none")] == ["imagenet", "none"]


def test_whole_numbers_do_where_fractions_may_stand(tmp_path):
    config = load(tmp_path, GOOD + "pairs: {shift: 32}\nappearance: {turn: 0}\n")
    assert (config.pairs.shift, config.appearance.turn) == (32.0, 0.0)
    assert isinstance(config.pairs.shift, float)


def test_the_config_in_the_repository_is_readable():
    config = load_config(SMALL)
    assert config.model == "siamrpn_mobilev2_small"
    assert all(isinstance(prefix, str) and len(prefix) > 1 for prefix in config.frozen)


WRONG = [
    ("batches: 3", "batches"),
    ("pairs: {shifts: 3}", "shifts"),
    ("batch: many", "batch"),
    ("batch: 2.5", "batch"),
    ("batch: yes", "batch"),
    ("batch: 0", "batch"),
    ("batch: -4", "batch"),
    ("seed: -1", "seed"),
    ("seed: 99999999999999999999", "seed"),
    ("optimiser: sdg", "optimiser"),
    ("precision: fp16", "precision"),
    ("frozen: backbone", "frozen"),
    ("frozen: [1]", "frozen"),
    ("pairs:", "pairs"),
    ("pairs: [1]", "pairs"),
    ("pairs: {shift: far}", r"pairs\.shift"),
    ("pairs: {shift: -1}", r"pairs\.shift"),
    ("pairs: {shift: .nan}", r"pairs\.shift"),
    ("pairs: {shift: .inf}", r"pairs\.shift"),
    ("pairs: {log_scale: -0.1}", r"pairs\.log_scale"),
    ("pairs: {negatives: 1.5}", "negatives"),
    ("pairs: {distractors: 2}", "distractors"),
    ("pairs: {max_share: 0}", "max_share"),
    ("appearance: {turn: .nan}", r"appearance\.turn"),
    ("appearance: {blur: -1}", r"appearance\.blur"),
    ("held_back: 0.9", "held_back"),
    ("average: 1", "average"),
    ("smooth_l1: -1", "smooth_l1"),
    ("weight_decay: -1", "weight_decay"),
    ("check_every: 0", "check_every"),
    ("save_every: 0", "save_every"),
    ("check_pairs: 0", "check_pairs"),
    ("output: 5", "output"),
    ("data: []", "no data"),
    ("data: {path: a, format: stills}", "data"),
    ("data: [{path: a}]", "format"),
    ("data: [{path: a, format: stills, weight: 0}]", "weight"),
    ("data: [{path: a, format: stills, weight: .inf}]", "weight"),
    ("data: [{path: a, format: stills, span: -1}]", "span"),
    ("schedule: {}", "steps"),
    ("schedule: {steps: 0}", "steps"),
    ("schedule: {steps: 5, rate: 0}", "rate"),
    ("schedule: {steps: 5, final_rate: .nan}", "final_rate"),
    ("schedule: {steps: 5, warm_up: -1}", "warm_up"),
    ("schedule: {steps: 5, backbone_share: -1}", "backbone_share"),
]


@pytest.mark.parametrize(("line", "field"), WRONG, ids=[line for line, _ in WRONG])
def test_a_wrong_field_is_named(tmp_path, line, field):
    with pytest.raises(TrainingError, match=rf"unusable config: received .*run\.yaml: .*{field}.*; expected"):
        load(tmp_path, f"{GOOD}{line}\n")


@pytest.mark.parametrize("field", ["model", "output", "data", "schedule"])
def test_a_missing_field_is_named(tmp_path, field):
    import yaml

    plain = yaml.safe_load(GOOD)
    del plain[field]
    with pytest.raises(TrainingError, match=rf'missing value for field "{field}"'):
        load(tmp_path, yaml.safe_dump(plain))


@pytest.mark.parametrize("text", ["", "[]", "3", "just words"])
def test_what_is_no_mapping_is_refused(tmp_path, text):
    with pytest.raises(TrainingError, match="unusable config"):
        load(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    ["a: [", "a: b: c", "\0", "!!python/object/apply:os.getcwd []", "[" * 500, f"batch: {'1' * 5000}", "\udcff"],
    ids=["open", "two colons", "null byte", "python tag", "deep", "long number", "not UTF-8"],
)
def test_what_is_no_yaml_is_refused(tmp_path, text):
    (tmp_path / "run.yaml").write_text(text, errors="surrogateescape")
    with pytest.raises(TrainingError, match="unreadable config"):
        load_config(tmp_path / "run.yaml")


@pytest.mark.parametrize("field", ["frozen", "model", "data", "pairs"])
def test_aliases_of_aliases_are_never_spelled_out(tmp_path, field):
    levels = [f" - &x{level} [{', '.join([f'*x{level - 1}'] * 9) if level else 'lol'}]\n" for level in range(NESTED)]
    with pytest.raises(TrainingError, match=r"unreadable config.*an alias") as error:
        load(tmp_path, f"{GOOD}{field}:\n{''.join(levels)}")
    assert len(str(error.value)) < 1000


def test_a_file_too_large_for_a_config_is_not_parsed(tmp_path):
    with pytest.raises(TrainingError, match=f"larger than {LARGEST_CONFIG} bytes"):
        load(tmp_path, "[" * (LARGEST_CONFIG + 1))


def test_a_missing_config_is_refused(tmp_path):
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(TrainingError, match="unreadable config"):
            load_config(path)
