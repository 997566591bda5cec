"""DPO as the paper ran it: tokens and batches of that time, the right loss, exact resume, and the way to table 8."""

from __future__ import annotations

import json
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from click.testing import CliRunner

from icl_local import dpo
from icl_local.cli.dpo import command, interruptible
from icl_local.convert.checkpoint import Checkpoint
from icl_local.convert.convert import convert
from icl_local.convert.model_source import ModelSource, locate
from icl_local.dpo.data import Pair, PaperCollator, load_preferences, paper_tokens
from icl_local.dpo.settings import parameters
from icl_local.dpo.trainer import load_model, load_tokenizer, make_trainer, quiet
from icl_local.exceptions import ConfigError, ConversionError, DiskFull, InputError, TrainingError
from icl_local.identity import sha256_file
from icl_local.running import cells, run
from icl_local.store.database import Store, query
from tests.tiny_checkpoint import build_checkpoint

TOPICS = ["the north", "an answer", "the weather", "a table", "the second", "cold", "another way", "what they wanted"]


pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    """A base model without chat template, as the study's are."""
    folder = build_checkpoint(tmp_path_factory.mktemp("base") / "tiny-base", scale=0.1)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["chat_template"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return locate(str(folder))


@pytest.fixture(scope="module")
def pairs_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight conversations: one kind of answer is wanted, the other is not."""
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    rows = [
        {
            "prompt": "left out, as TRL's script needed it",
            "chosen": conversation(topic, f"The answer is {topic}."),
            "rejected": conversation(topic, "no no no no"),
        }
        for topic in TOPICS
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def conversation(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"Write about {question}"}, {"role": "assistant", "content": answer}]


def tiny_run(**changes: Any) -> Any:
    return parameters(**{"learning_rate": 5e-3, "max_steps": 4, "gradient_accumulation": 2} | changes)


class Silent:
    """A watcher that wants nothing."""

    def begin(self) -> None: ...
    def wants_stop(self, step: int) -> bool:
        return False

    def log(self, logs: dict[str, float], *, step: int, total: int) -> None: ...


# The whole chain, once.


@pytest.fixture(scope="module")
def trained(
    base: ModelSource, pairs_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dpo.TrainingRun, list[dpo.Step], Path]:
    """A finished run with its steps and its database."""
    folder = tmp_path_factory.mktemp("trained")
    steps: list[dpo.Step] = []
    with Store(folder / "icl.duckdb") as store:
        made = dpo.train(
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
    first = dpo.train(base, preferences, tmp_path / "out", tiny_run(), stop_after=2, save_every=50)
    assert (first.status, first.step) == ("stopped", 2)
    assert not (tmp_path / "out" / "config.json").exists()
    with pytest.raises(ConversionError, match=r"config\.json"):
        Checkpoint(tmp_path / "out")
    # A checkpoint that a kill cut short lies beside the whole one.
    (tmp_path / "out" / "checkpoints" / "checkpoint-3").mkdir()
    later: list[dpo.Step] = []
    second = dpo.train(base, preferences, tmp_path / "out", tiny_run(), on_step=later.append)
    assert [step.step for step in later] == [3, 4]
    assert [step.loss for step in later] == [step.loss for step in steps[2:]]
    name = "model.safetensors"
    assert sha256_file(second.folder / name) == sha256_file(whole.folder / name)
    assert second.checkpoint_sha256 == whole.checkpoint_sha256
    assert second.training_run_id == whole.training_run_id
    again = dpo.train(base, preferences, tmp_path / "out", tiny_run())
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
            dpo.train(base, preferences, tmp_path / "out", tiny_run(), save_every=1)
    later: list[dpo.Step] = []
    made = dpo.train(base, preferences, tmp_path / "out", tiny_run(), save_every=1, on_step=later.append)
    assert later == []
    assert (made.step, made.checkpoint_sha256) == (4, trained[0].checkpoint_sha256)


def test_chain_ends_in_table_8_with_its_lineage(
    trained: tuple[dpo.TrainingRun, list[dpo.Step], Path], base: ModelSource, tmp_path: Path
) -> None:
    made, _, db = trained
    with Store(db) as store:
        after = convert(made.folder, tmp_path / "tiny-dpo.gguf", type_name="f16", store=store)
        before = convert(base.folder, tmp_path / "tiny.gguf", type_name="f16", store=store)
    assert (after.gate, before.gate) == ("passed", "passed")
    models = [str(after.path), str(before.path)]
    planned = cells.plan_cells(models, ["zero-shot", "urial"], cells.load_queries(["en"], ["samples"], limit=2))
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


# The loss.


@pytest.mark.soak
def test_embedded_model_goes_the_whole_way(embedded_model: Path, pairs_file: Path, tmp_path: Path) -> None:
    """135 million real weights: unpacked from GGUF, trained, resumed, converted, gated, run."""
    source = locate(str(embedded_model), work=tmp_path / "base")
    settings = tiny_run(learning_rate=5e-6, max_steps=2, batch_size=1)
    preferences = load_preferences(str(pairs_file))
    db = tmp_path / "icl.duckdb"
    with Store(db) as store:
        whole = dpo.train(source, preferences, tmp_path / "whole", settings, store=store)
        assert dpo.train(source, preferences, tmp_path / "parts", settings, stop_after=1).status == "stopped"
        parts = dpo.train(source, preferences, tmp_path / "parts", settings)
        assert parts.checkpoint_sha256 == whole.checkpoint_sha256
        made = convert(whole.folder, tmp_path / "smol-dpo.gguf", type_name="q8_0", store=store)
    assert made.gate == "passed"
    queries = cells.load_queries(["en"], ["samples"], limit=1)
    planned = cells.plan_cells([str(made.path)], ["zero-shot", "urial"], queries)
    run.run_cells(db, planned, decoding=cells.Decoding(max_tokens=16), probe=False)
    assert query(db, "select method, dpo from table_8 order by all").rows == [("urial", True), ("zero-shot", True)]


def test_loss_and_gradients_are_those_of_the_definition(base: ModelSource, pairs_file: Path, tmp_path: Path) -> None:
    """Against Rafailov et al. (2023), eq. 7, sequence by sequence, without padding or batching."""
    import torch
    import torch.nn.functional as F

    settings = tiny_run()
    preferences = load_preferences(str(pairs_file))
    tokenizer = load_tokenizer(base.folder)
    with quiet():
        trainer = make_trainer(
            base.folder, tokenizer, preferences.pairs, tmp_path, settings, watcher=Silent(), save_every=100
        )
    policy, plain, reference = trainer.model, load_model(base.folder), load_model(base.folder)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for ours, theirs in zip(plain.parameters(), policy.parameters(), strict=True):
            ours += 0.05 * torch.randn(ours.shape, generator=generator)
            theirs.copy_(ours)

    def log_probability(model: Any, prompt: list[int], answer: list[int]) -> torch.Tensor:
        logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        return F.log_softmax(logits, dim=-1).gather(1, torch.tensor(answer)[:, None]).sum()

    rows = [paper_tokens(pair, tokenizer, max_prompt_length=512) for pair in preferences.pairs]
    for first in (0, 2):
        batch = rows[first : first + 2]
        losses = []
        for row in batch:
            ratios = [
                log_probability(plain, row["prompt_ids"], row[key])
                - log_probability(reference, row["prompt_ids"], row[key]).detach()
                for key in ("chosen_ids", "rejected_ids")
            ]
            losses.append(-F.logsigmoid(settings.beta * (ratios[0] - ratios[1])))
        expected = torch.stack(losses).mean()
        plain.zero_grad()
        expected.backward()
        policy.zero_grad()
        policy.train()
        loss = trainer.compute_loss(policy, trainer.data_collator(batch))
        loss.backward()
        assert abs(expected.item() - 0.6931) > 0.01  # the models differ, so there is something to compare
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
        for (name, ours), theirs in zip(plain.named_parameters(), policy.parameters(), strict=True):
            torch.testing.assert_close(theirs.grad, ours.grad, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def test_reference_computed_first_gives_the_same_run(base: ModelSource, pairs_file: Path, tmp_path: Path) -> None:
    found: dict[bool, list[float]] = {}
    for first in (False, True):
        steps: list[dpo.Step] = []
        settings = tiny_run(max_steps=2, precompute_reference=first)
        dpo.train(base, load_preferences(str(pairs_file)), tmp_path / str(first), settings, on_step=steps.append)
        found[first] = [step.loss for step in steps]
    assert found[True] == pytest.approx(found[False], abs=1e-5)


def test_lora_is_merged_and_its_adapter_kept(base: ModelSource, pairs_file: Path, tmp_path: Path) -> None:
    made = dpo.train(base, load_preferences(str(pairs_file)), tmp_path / "out", tiny_run(lora_rank=2, max_steps=2))
    merged, adapter, original = (Checkpoint(f) for f in (made.folder, made.folder / "adapter", base.folder))
    assert adapter.model_folder == base.folder
    changed = set()
    for plan in merged.plans:
        ours, theirs, before = (next(c.blocks(plan)) for c in (merged, adapter, original))
        assert ours == pytest.approx(theirs, abs=1e-6)
        if abs(ours - before).max() > 0:
            changed.add(plan.name)
    assert changed == {plan.name for plan in merged.plans if len(plan.shape) == 2} - {"token_embd.weight"}


# Tokens and batches of that time.


def test_base_model_gets_the_simple_chat_form_without_bos_and_with_eos(base: ModelSource) -> None:
    tokenizer = load_tokenizer(base.folder)
    question, answer = conversation("cold", "Yes.")
    pair = Pair([question], [answer], [{"role": "assistant", "content": "No."}])
    ids = paper_tokens(pair, tokenizer, max_prompt_length=None)
    assert tokenizer.decode(ids["prompt_ids"]) == "User: Write about cold\n\nAssistant:"
    assert tokenizer.decode(ids["chosen_ids"]) == " Yes.\n\n<|im_end|>"
    assert tokenizer.decode(ids["rejected_ids"]) == " No.\n\n<|im_end|>"
    cut = paper_tokens(pair, tokenizer, max_prompt_length=3)
    assert cut["prompt_ids"] == ids["prompt_ids"][-3:]


def test_model_with_a_template_gets_its_own(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(build_checkpoint(tmp_path / "chat"))
    question, answer = conversation("cold", "Yes.")
    ids = paper_tokens(Pair([question], [answer], [answer]), tokenizer, max_prompt_length=None)
    assert tokenizer.decode(ids["prompt_ids"]).endswith("<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer.decode(ids["chosen_ids"]) == "Yes.<|im_end|>\n<|im_end|>"


def test_long_batches_are_cut_as_a_whole_as_then_or_row_by_row() -> None:
    rows = [{"prompt_ids": [1, 2, 3], "chosen_ids": [4, 5, 6], "rejected_ids": [7]}]
    batch = PaperCollator(0, 4, "keep_end", cut_rows=False)(rows)
    assert batch["input_ids"].tolist() == [[3, 4, 5, 6], [3, 7, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["completion_mask"].tolist() == [[0, 1, 1, 1], [0, 1, 0, 0]]
    assert PaperCollator(0, 4, "keep_end", cut_rows=True)(rows)["input_ids"].tolist() == [[3, 4, 5, 6], [1, 2, 3, 7]]
    assert PaperCollator(0, 4, "keep_start", cut_rows=False)(rows)["input_ids"].tolist() == [[1, 2, 3, 4], [1, 2, 3, 7]]


def test_presets() -> None:
    paper, today = parameters(), parameters("trl-default")
    assert (paper.learning_rate, paper.epochs, paper.batch_size, paper.gradient_accumulation) == (5e-7, 1, 2, 8)
    assert (paper.beta, paper.max_length, paper.max_prompt_length, paper.truncation) == (0.1, 1024, 512, "keep_end")
    assert paper.gradient_checkpointing
    assert not paper.bf16
    from trl import DPOConfig

    theirs = DPOConfig(output_dir="unused", bf16=False, use_cpu=True)
    assert today.learning_rate == theirs.learning_rate
    assert today.epochs == theirs.num_train_epochs
    assert today.batch_size == theirs.per_device_train_batch_size
    assert today.gradient_accumulation == theirs.gradient_accumulation_steps
    assert (today.truncation, today.max_length) == (theirs.truncation_mode, theirs.max_length)
    assert (today.beta, today.seed, today.optimizer) == (theirs.beta, theirs.seed, theirs.optim)


def test_todays_trainer_runs_too(tmp_path: Path, pairs_file: Path) -> None:
    chat = locate(str(build_checkpoint(tmp_path / "chat", scale=0.1)))
    settings = parameters("trl-default", max_steps=1, batch_size=2)
    assert dpo.train(chat, load_preferences(str(pairs_file)), tmp_path / "out", settings).status == "done"


def test_parameters_from_a_file_yield_to_options(tmp_path: Path) -> None:
    file = tmp_path / "dpo.toml"
    file.write_text('preset = "trl-default"\nbeta = 0.2\nmax_length = 300\nlearning_rate = 1\n')
    found = parameters(None, file, max_length=200, lora_rank=None)
    assert (found.preset, found.beta, found.max_length, found.learning_rate) == ("trl-default", 0.2, 200, 1)
    assert found.truncation == "keep_start"


# Preference files.


def test_files_and_forms_give_the_same_pairs(tmp_path: Path, pairs_file: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [json.loads(line) for line in pairs_file.read_text().splitlines()]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pairs.parquet")
    explicit = [
        {"prompt": row["chosen"][:1], "chosen": row["chosen"][1:], "rejected": row["rejected"][1:]} for row in rows
    ]
    (tmp_path / "explicit.jsonl").write_text("".join(json.dumps(row) + "\n" for row in explicit))
    found = load_preferences(str(pairs_file))
    assert load_preferences(str(tmp_path / "pairs.parquet")).sha256 == found.sha256
    assert load_preferences(str(tmp_path / "explicit.jsonl")).pairs == found.pairs
    assert len(load_preferences(str(pairs_file), limit=3).pairs) == 3


def test_texts_without_prompt_share_their_beginning(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"chosen": "The sky is blue", "rejected": "The sky is green"}\n')
    pair = load_preferences(str(tmp_path / "p.jsonl")).pairs[0]
    assert pair == Pair("The sky is", " blue", " green")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"prompt": "a", "chosen": "b"}', r":1: no column 'rejected'; there are: chosen, prompt"),
        ("", "holds no preference pairs"),
        ('{"prompt": "a", "chosen": "b", "rejected": "c"}\n{"chosen": "b", "rejected": "b"}', ":2: chosen and rej"),
        ("not json", ":1: broken JSON"),
        ('{"chosen": [{"role": "user"}], "rejected": "c"}', "role and content"),
        ('{"chosen": [1], "rejected": [2]}', "role and content"),
        ('{"prompt": "a", "chosen": "b", "rejected": [{"role": "user", "content": "c"}]}', "both be texts"),
        ("[1, 2]", "holds int where an object"),
    ],
)
def test_an_error_in_a_preference_file_names_the_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.jsonl").write_text(text)
    with pytest.raises(InputError, match=message):
        load_preferences(str(tmp_path / "p.jsonl"))


def test_identical_answers_can_be_dropped_or_kept(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "chosen": "b", "rejected": "b"}, {"prompt": "a", "chosen": "b", "rejected": "c"}]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert len(load_preferences(str(tmp_path / "p.jsonl"), identical="drop").pairs) == 1
    assert len(load_preferences(str(tmp_path / "p.jsonl"), identical="keep").pairs) == 2
    with pytest.raises(InputError, match="does not exist"):
        load_preferences(str(tmp_path / "none.jsonl"))


# What cannot be trained.


def test_preset_of_today_needs_a_chat_template(base: ModelSource, pairs_file: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no chat template"):
        dpo.train(base, load_preferences(str(pairs_file)), tmp_path / "out", parameters("trl-default"))
    assert not (tmp_path / "out").exists()


def test_folder_of_another_run_is_left_alone(
    trained: tuple[dpo.TrainingRun, list[dpo.Step], Path], base: ModelSource, pairs_file: Path, tmp_path: Path
) -> None:
    preferences = load_preferences(str(pairs_file))
    with pytest.raises(TrainingError, match="another run"):
        dpo.train(base, preferences, trained[0].folder, tiny_run(beta=0.2))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(TrainingError, match="no training run"):
        dpo.train(base, preferences, tmp_path / "mine", tiny_run())
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_loss_that_is_not_a_number_stops_the_run(base: ModelSource, pairs_file: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="lower learning rate"):
        dpo.train(base, load_preferences(str(pairs_file)), tmp_path / "out", tiny_run(learning_rate=1e30))
    assert not (tmp_path / "out" / "config.json").exists()


@contextmanager
def file_size_limit(n_bytes: int) -> Iterator[None]:
    """Writing beyond ``n_bytes`` of a file fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_full_disk_while_saving_keeps_the_last_whole_checkpoint(
    base: ModelSource, pairs_file: Path, tmp_path: Path
) -> None:
    preferences = load_preferences(str(pairs_file))
    dpo.train(base, preferences, tmp_path / "out", tiny_run(), stop_after=1)
    weights = (tmp_path / "out" / "checkpoints" / "checkpoint-1" / "model.safetensors").stat().st_size
    with file_size_limit(weights - 1), pytest.raises(DiskFull, match="no space left"):
        dpo.train(base, preferences, tmp_path / "out", tiny_run(), stop_after=2)
    assert [p.name for p in (tmp_path / "out" / "checkpoints").iterdir()] == ["checkpoint-1"]
    assert not (tmp_path / "out" / "config.json").exists()
    assert dpo.train(base, preferences, tmp_path / "out", tiny_run()).status == "done"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "best"}, "best"),
        ({"batch_size": 0}, "batch_size must be above 0"),
        ({"truncation": "middle"}, "middle"),
        ({"loss_type": "mse"}, "mse"),
    ],
)
def test_parameters_out_of_range_are_told(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parameters(**changes)


@pytest.mark.parametrize(
    ("text", "message"), [("betta = 1", "betta"), ("beta = 'a'", "beta must be a number"), ("=", "TOML")]
)
def test_an_error_in_a_parameter_file_names_the_key(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "dpo.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        parameters(None, tmp_path / "dpo.toml")


# The command.


def test_plan_counts_steps_memory_and_disk_without_writing(base: ModelSource, pairs_file: Path, tmp_path: Path) -> None:
    preferences = load_preferences(str(pairs_file))
    full = dpo.plan_training(base, preferences, tmp_path / "out", parameters(gradient_accumulation=2))
    assert full.n_steps == 2  # 8 pairs, 4 a step
    assert full.n_trained == full.n_parameters == Checkpoint(base.folder).parameters
    assert full.memory["reference model"] == full.memory["weights"] == 4 * full.n_parameters
    assert full.memory["optimizer"] == 8 * full.n_parameters
    first = dpo.plan_training(base, preferences, tmp_path / "out", parameters(precompute_reference=True))
    assert first.memory["reference model"] == 0
    small = dpo.plan_training(base, preferences, tmp_path / "out", parameters(lora_rank=2))
    assert small.n_trained < small.n_parameters / 2
    assert small.memory["reference model"] == 0
    assert full.seconds > 0
    assert not (tmp_path / "out").exists()
    result = CliRunner().invoke(
        command, ["--base", str(base.folder), "--dataset", str(pairs_file), "--out", str(tmp_path / "out"), "--plan"]
    )
    assert result.exit_code == 0
    assert "memory in all" in result.stdout
    assert not (tmp_path / "out").exists()


def test_first_ctrl_c_asks_for_a_checkpoint_and_the_second_interrupts() -> None:
    with interruptible() as interrupted:
        assert not interrupted()
        signal.raise_signal(signal.SIGINT)
        assert interrupted()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_every_parameter_is_an_option() -> None:
    import dataclasses

    from icl_local.dpo.settings import Parameters

    options = {parameter.name for parameter in command.params}
    assert {field.name for field in dataclasses.fields(Parameters)} <= options
