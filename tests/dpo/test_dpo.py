"""DPO with the settings of the paper: a resumed run has the same bits, and the chain ends in table 8."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest

from icl_local import dpo
from icl_local.cli import main
from icl_local.cli.models import next_command
from icl_local.cli.study import interruptible
from icl_local.convert.checkpoint import Checkpoint, merge_adapter
from icl_local.convert.model_source import ModelSource, locate
from icl_local.dpo.data import load_preferences, load_tokenizer
from icl_local.dpo.dpo import LOCK
from icl_local.dpo.parameters import parameters
from icl_local.exceptions import ConversionError, DiskFull, MissingExtra, TrainingError
from icl_local.identity import sha256_file
from icl_local.operating_system import locked
from icl_local.running import cells, load_queries, run
from icl_local.store.database import Store, query
from tests.dpo.inputs import tiny_run
from tests.limits import file_size_limit
from tests.tiny_architectures import build_architecture
from tests.tiny_checkpoint import build_checkpoint
from tests.unstored import convert, train

pytestmark = pytest.mark.usefixtures("one_torch_thread")


# The whole chain, once.


@pytest.fixture(scope="module")
def trained(
    base: ModelSource, pairs_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dpo.TrainingRun, list[dpo.Step], Path]:
    """A finished run with its steps and its database."""
    folder = tmp_path_factory.mktemp("trained")
    steps: list[dpo.Step] = []
    with Store(folder / "icl.duckdb") as store:
        made = train(
            base, load_preferences(str(pairs_file)), folder / "out", tiny_run(), store=store, on_step=steps.append
        )
    return made, steps, folder / "icl.duckdb"


def test_margin_grows_and_every_step_is_a_row(trained: tuple[dpo.TrainingRun, list[dpo.Step], Path]) -> None:
    made, steps, db = trained
    assert (made.status, made.step, made.total_steps) == ("done", 4, 4)
    margins = [step.reward_margin for step in steps]
    assert margins[0] == 0.0  # policy and reference begin as the same model
    assert margins == sorted(margins)
    assert margins[-1] > 0.5
    assert steps[-1].reward_accuracy == 1.0
    rows = query(db, "select step, loss, reward_margin, status, preset, method from training_curves order by step").rows
    assert rows == [(s.step, s.loss, s.reward_margin, "done", "paper", "full") for s in steps]


def test_resumed_run_has_bit_identical_weights(
    trained: tuple[dpo.TrainingRun, list[dpo.Step], Path], base: ModelSource, pairs_file: Path, tmp_path: Path
) -> None:
    whole, steps, _ = trained
    preferences = load_preferences(str(pairs_file))
    first = train(base, preferences, tmp_path / "out", tiny_run(), stop_after=2, save_every=50)
    assert (first.status, first.step) == ("stopped", 2)
    assert not (tmp_path / "out" / "config.json").exists()
    with pytest.raises(ConversionError, match=r"config\.json"):
        Checkpoint(tmp_path / "out")
    # A checkpoint that a kill cut short lies beside the whole one.
    (tmp_path / "out" / "checkpoints" / "checkpoint-3").mkdir()
    later: list[dpo.Step] = []
    second = train(base, preferences, tmp_path / "out", tiny_run(), on_step=later.append)
    assert [step.step for step in later] == [3, 4]
    assert [step.loss for step in later] == [step.loss for step in steps[2:]]
    name = "model.safetensors"
    assert sha256_file(second.folder / name) == sha256_file(whole.folder / name)
    assert second.checkpoint_sha256 == whole.checkpoint_sha256
    assert second.training_run_id == whole.training_run_id
    again = train(base, preferences, tmp_path / "out", tiny_run())
    assert (again.status, again.checkpoint_sha256) == ("done", whole.checkpoint_sha256)


def test_a_run_killed_behind_its_last_step_trains_no_other(
    trained: tuple[dpo.TrainingRun, list[dpo.Step], Path],
    base: ModelSource,
    pairs_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    preferences = load_preferences(str(pairs_file))
    with monkeypatch.context() as patched:
        patched.setattr("icl_local.dpo.dpo._finish", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(base, preferences, tmp_path / "out", tiny_run(), save_every=1)
    later: list[dpo.Step] = []
    made = train(base, preferences, tmp_path / "out", tiny_run(), save_every=1, on_step=later.append)
    assert later == []
    assert (made.step, made.checkpoint_sha256) == (4, trained[0].checkpoint_sha256)


def test_chain_ends_in_table_8_with_its_lineage(
    trained: tuple[dpo.TrainingRun, list[dpo.Step], Path],
    base: ModelSource,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, _, db = trained
    monkeypatch.setenv("ICL_MODELS_FILE", str(tmp_path / "models.toml"))
    with Store(db) as store:
        after = convert(made.folder, tmp_path / "tiny-dpo.gguf", type_name="f16", store=store)
        before = convert(base.folder, tmp_path / "tiny.gguf", type_name="f16", store=store)
    assert (after.row["gate"], before.row["gate"]) == ("passed", "passed")
    assert next_command(before, db, dpo=False) == f"icl run --model {before.path}"
    assert next_command(after, db, dpo=False) == (
        f"icl models add tiny-dpo --base BASE.gguf --base-dpo {after.path} (BASE.gguf: the file of tiny-base); "
        "icl run --model tiny-dpo --dpo"
    )
    (tmp_path / "models.toml").write_text('[tiny.instruct]\ncheckpoint = "tiny-base"\n')
    assert next_command(after, db, dpo=False) == (
        f"icl models add tiny --instruct-dpo {after.path}; icl run --model tiny --dpo"
    )
    models = [str(after.path), str(before.path)]
    planned = cells.plan_cells(models, ["zero-shot", "urial"], load_queries(["en"], ["samples"], limit=2))
    run.run_cells(db, planned, decoding=cells.Decoding(max_tokens=4), probe=False)
    rows = query(db, "select model, method, dpo, n from table_8 order by all").rows
    assert rows == [
        ("tiny", "urial", False, 2),
        ("tiny", "zero-shot", False, 2),
        ("tiny-dpo", "urial", True, 2),
        ("tiny-dpo", "zero-shot", True, 2),
    ]
    sql = "select file_name, gate, training_run_id, base_source, dataset, n_responses from lineage order by all"
    assert query(db, sql).rows == [
        ("tiny-dpo.gguf", "passed", made.training_run_id, "tiny-base", "pairs.jsonl", 4),
        ("tiny.gguf", "passed", None, None, None, 4),
    ]


@pytest.mark.soak
def test_the_embedded_model_is_trained_and_run(embedded_model: Path, pairs_file: Path, tmp_path: Path) -> None:
    """135 million real weights: unpacked from GGUF, trained, resumed, converted, gated, run."""
    source = locate(str(embedded_model), work=tmp_path / "base")
    settings = tiny_run(learning_rate=5e-6, max_steps=2, batch_size=1)
    preferences = load_preferences(str(pairs_file))
    db = tmp_path / "icl.duckdb"
    with Store(db) as store:
        whole = train(source, preferences, tmp_path / "whole", settings, store=store)
        assert train(source, preferences, tmp_path / "parts", settings, stop_after=1).status == "stopped"
        parts = train(source, preferences, tmp_path / "parts", settings)
        assert parts.checkpoint_sha256 == whole.checkpoint_sha256
        made = convert(whole.folder, tmp_path / "smol-dpo.gguf", type_name="q8_0", store=store)
    assert made.row["gate"] == "passed"
    queries = load_queries(["en"], ["samples"], limit=1)
    planned = cells.plan_cells([str(made.path)], ["zero-shot", "urial"], queries)
    run.run_cells(db, planned, decoding=cells.Decoding(max_tokens=16), probe=False)
    assert query(db, "select method, dpo from table_8 order by all").rows == [("urial", True), ("zero-shot", True)]


def test_reference_computed_first_gives_the_same_run(base: ModelSource, pairs_file: Path, tmp_path: Path) -> None:
    found: dict[bool, list[float]] = {}
    for first in (False, True):
        steps: list[dpo.Step] = []
        settings = tiny_run(max_steps=2, precompute_reference=first)
        train(base, load_preferences(str(pairs_file)), tmp_path / str(first), settings, on_step=steps.append)
        found[first] = [step.loss for step in steps]
    assert found[True] == pytest.approx(found[False], abs=1e-5)


def test_lora_is_merged_and_its_adapter_kept(base: ModelSource, pairs_file: Path, tmp_path: Path) -> None:
    made = train(base, load_preferences(str(pairs_file)), tmp_path / "out", tiny_run(lora_rank=2, max_steps=2))
    adapter = merge_adapter(Checkpoint(made.folder / "adapter"), tmp_path / "again")
    merged, original = Checkpoint(made.folder), Checkpoint(base.folder)
    changed = set()
    for name in merged.shapes:
        ours, theirs, before = (next(one.rows(name)) for one in (merged, adapter, original))
        assert ours == pytest.approx(theirs, abs=1e-6)
        if abs(ours - before).max() > 0:
            changed.add(name)
    assert changed == {name for name, shape in merged.shapes.items() if len(shape) == 2 and "embed" not in name}


@pytest.mark.parametrize("name", ["qwen3", "gemma2", "gpt-neox"])
def test_other_architectures_are_trained_and_converted(name: str, pairs_file: Path, tmp_path: Path) -> None:
    source = locate(str(build_architecture(tmp_path / name, name)))
    made = train(source, load_preferences(str(pairs_file)), tmp_path / "out", tiny_run(max_steps=1))
    assert made.status == "done"
    assert convert(made.folder, tmp_path / "trained.gguf", type_name="f32").row["gate"] == "passed"


def test_a_tokenizer_of_older_files_is_kept_with_the_model(pairs_file: Path, tmp_path: Path) -> None:
    folder = build_checkpoint(tmp_path / "older", scale=0.1)
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = (merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"])
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    (folder / "tokenizer.json").unlink()
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"tokenizer_class": "GPT2Tokenizer"}))
    made = train(locate(str(folder)), load_preferences(str(pairs_file)), tmp_path / "out", tiny_run(max_steps=1))
    assert len(load_tokenizer(made.folder)) == len(load_tokenizer(folder)) > len(model["vocab"]) / 2
    with pytest.raises(ConversionError, match=r"its tokenizer \(no tokenizer.json\) is not one that llama.cpp"):
        convert(made.folder, tmp_path / "trained.gguf")


def test_todays_trainer_runs_too(tmp_path: Path, pairs_file: Path) -> None:
    chat = locate(str(build_checkpoint(tmp_path / "chat", scale=0.1)))
    settings = parameters("trl-default", max_steps=1, batch_size=2)
    assert train(chat, load_preferences(str(pairs_file)), tmp_path / "out", settings).status == "done"


# What cannot be trained.


def test_folder_of_another_run_is_left_alone(
    trained: tuple[dpo.TrainingRun, list[dpo.Step], Path], base: ModelSource, pairs_file: Path, tmp_path: Path
) -> None:
    preferences = load_preferences(str(pairs_file))
    with pytest.raises(TrainingError, match="another run"):
        train(base, preferences, trained[0].folder, tiny_run(beta=0.2))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(TrainingError, match="is not a training run"):
        train(base, preferences, tmp_path / "mine", tiny_run())
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_run_that_failed_before_its_first_checkpoint_leaves_its_folder(
    base: ModelSource, pairs_file: Path, tmp_path: Path
) -> None:
    preferences, out = load_preferences(str(pairs_file)), tmp_path / "out"
    for _ in range(2):
        with pytest.raises(TrainingError, match="bogus is not a valid"):
            train(base, preferences, out, tiny_run(optimizer="bogus"))
    (out / ".training.json.0123abcd.part").touch()  # what a killed process left
    (out / LOCK).touch()
    found = train(base, preferences, out, tiny_run(), stop_after=1)
    assert (found.status, found.step) == ("stopped", 1)
    with pytest.raises(TrainingError, match="another run"):
        train(base, preferences, out, tiny_run(beta=0.2))


def test_the_folder_of_a_living_process_is_left_alone(base: ModelSource, pairs_file: Path, tmp_path: Path) -> None:
    preferences, out = load_preferences(str(pairs_file)), tmp_path / "out"
    with pytest.raises(TrainingError, match="bogus is not a valid"):
        train(base, preferences, out, tiny_run(optimizer="bogus"))
    (out / "checkpoints" / "checkpoint-1").mkdir(parents=True)  # being written
    with locked(out / LOCK):
        for settings in (tiny_run(), tiny_run(optimizer="bogus")):
            with pytest.raises(TrainingError, match="another process trains"):
                train(base, preferences, out, settings)
    assert (out / "checkpoints" / "checkpoint-1").is_dir()


def test_loss_that_is_not_a_number_stops_the_run(base: ModelSource, pairs_file: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="lower learning rate"):
        train(base, load_preferences(str(pairs_file)), tmp_path / "out", tiny_run(learning_rate=1e30))
    assert not (tmp_path / "out" / "config.json").exists()


def test_full_disk_while_saving_keeps_the_last_whole_checkpoint(
    base: ModelSource, pairs_file: Path, tmp_path: Path
) -> None:
    preferences = load_preferences(str(pairs_file))
    train(base, preferences, tmp_path / "out", tiny_run(), stop_after=1)
    weights = (tmp_path / "out" / "checkpoints" / "checkpoint-1" / "model.safetensors").stat().st_size
    with file_size_limit(weights - 1), pytest.raises(DiskFull, match="no space left"):
        train(base, preferences, tmp_path / "out", tiny_run(), stop_after=2)
    assert [p.name for p in (tmp_path / "out" / "checkpoints").iterdir()] == ["checkpoint-1"]
    assert not (tmp_path / "out" / "config.json").exists()
    assert train(base, preferences, tmp_path / "out", tiny_run()).status == "done"


# The command.


def test_sigterm_saves_a_checkpoint_and_exits_143(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def train(*_: object, should_stop: Callable[[], bool], **__: object) -> dpo.TrainingRun:
        signal.raise_signal(signal.SIGTERM)
        return dpo.TrainingRun("x", tmp_path, "stopped" if should_stop() else "done", 1, 4, None)

    monkeypatch.setattr(dpo, "prepare", lambda **_: ())
    monkeypatch.setattr(dpo, "train", train)
    arguments = ["dpo", "--base", "b", "--dataset", "d", "--out", str(tmp_path), "--db", str(tmp_path / "x.duckdb")]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 143


def test_first_ctrl_c_asks_for_a_checkpoint_and_the_second_interrupts() -> None:
    with interruptible() as interrupted:
        assert not interrupted()
        signal.raise_signal(signal.SIGINT)
        assert interrupted()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_the_extra_nothing_else_is_said(
    base: ModelSource, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trl", None)
    seen: list[str] = []
    with pytest.raises(MissingExtra, match=r"icl-local\[dpo\]"):
        train(base, load_preferences(str(pairs_file)), tmp_path / "out", tiny_run(), on_progress=seen.append)
    assert seen == []
