"""`icl judge` at the command line: what it prints, where, and how it ends."""

from __future__ import annotations

import csv
import datetime
import io
import os
import re
from pathlib import Path

import pytest

import icl_local
from icl_local import store
from icl_local.cli import main
from icl_local.exceptions import ConfigError
from icl_local.judging.ledger import RETRIED
from icl_local.openai_client.prices import Budget, find_price
from tests.faulty_server import FaultyServer
from tests.judge_rows import database, response_rows
from tests.shared import FOLDER

OPENAI = "https://api.openai.com/v1"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("OPENAI_", "ICL_")) and name != FOLDER]:
        monkeypatch.delenv(name)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return database(tmp_path / "t.duckdb", response_rows(3), response_rows(2, language="es", method="instruct"))


def icl(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["judge", *arguments])
    return int(end.value.code or 0)


def test_judging_twice_asks_once(path, capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")
    with FaultyServer() as server:
        assert icl("--judge", f"openai:m@{server.url}", "--db", str(path)) == 0
        assert icl("--judge", f"openai:m@{server.url}", "--db", str(path)) == 0
        assert sum(server.actions.values()) == 5
    out, err = capsys.readouterr()
    assert out == ""
    assert "5 judgments were missing, 0 were there: 5 ok" in err
    assert "0 judgments were missing, 5 were there (5 ok)" in " ".join(err.split())


def test_judgments_without_scores_are_counted_shown_and_asked_again(path, capsys, monkeypatch):
    script = ["ok", "refusal", "ok", "truncated", "ok", "refusal", "500", "ok"]
    with FaultyServer(script=script) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        command = ["--judge", "openai:m", "--concurrency", "1", "--db", str(path)]
        assert icl(*command) == 0
        err = " ".join(capsys.readouterr().err.split())
        assert "3 ok, 1 refused, 1 truncated; 16 scores" in err
        assert "again: the same command with --retry refused,truncated" in err
        shown = store.query(path, re.search(r'see: icl sql "(.+?)"', err)[1]).rows
        assert sorted(status for _, status, _, _ in shown) == ["refused", "truncated"]
        assert icl(*command) == 0
        assert "5 were there (3 ok, 1 refused, 1 truncated)" in " ".join(capsys.readouterr().err.split())
        for status in ("refused", "truncated", "refused"):
            assert icl(*command, "--retry", status) == 0
    attempts = "select status, attempt, count(*) from judgments group by all order by attempt, status"
    assert store.query(path, attempts).rows == [
        ("ok", 1, 3), ("refused", 1, 1), ("truncated", 1, 1),
        ("http_error", 2, 1), ("refused", 2, 1), ("ok", 3, 2),
    ]  # fmt: skip
    assert store.query(path, "select status, count(*) from verdicts group by all").rows == [("ok", 5)]


def test_the_help_lists_every_status_that_can_be_asked_again(capsys):
    assert icl("--help") == 0
    assert set(RETRIED) <= set(re.findall(r"\w+", capsys.readouterr().out))


def test_filters_choose_what_is_judged(path, monkeypatch):
    with FaultyServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        for options in (["--lang", "es"], ["--method", "urial", "--limit", "1"]):
            assert icl("--judge", "openai:m", "--db", str(path), *options) == 0
    found = store.query(path, "select language, count(*) from judgments group by 1 order by 1").rows
    assert found == [("en", 1), ("es", 2)]


def test_plan_shows_what_is_missing_and_its_price_without_a_request(path, capsys):
    assert icl("--judge", "openai:gpt-6-luna", "--plan", "--format", "csv", "--db", str(path)) == 0
    out, err = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [(row["split"], row["language"], row["missing"]) for row in rows] == [
        ("multi", "en", "3"),
        ("multi", "es", "2"),
        ("all", "", "5"),
    ]
    total = rows[-1]
    price = find_price("gpt-6-luna", OPENAI)
    assert float(total["usd"]) == pytest.approx(price.usd(int(total["prompt_tokens"]), int(total["completion_tokens"])))
    assert str(price.as_of) in err


def test_the_batch_is_planned_at_its_share_of_the_price(path, capsys):
    costs = []
    for more in ([], ["--batch"]):
        icl("--judge", "openai:gpt-6-luna", "--plan", "--format", "csv", "--db", str(path), *more)
        costs.append(float(list(csv.DictReader(io.StringIO(capsys.readouterr().out)))[-1]["usd"]))
    assert costs[1] == pytest.approx(costs[0] / 2)


def test_estimates_follow_what_the_judge_has_taken_so_far(tmp_path, capsys, monkeypatch):
    path = database(tmp_path / "t.duckdb", response_rows(60))
    with FaultyServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        icl("--judge", "openai:m", "--limit", "30", "--db", str(path))
        capsys.readouterr()
        icl("--judge", "openai:m", "--plan", "--format", "csv", "--db", str(path))
        planned = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))[-1]
        icl("--judge", "openai:m", "--db", str(path))
    rest = store.query(
        path,
        "select sum(prompt_tokens), sum(completion_tokens) "
        "from (select * from judgments order by created_at offset 30)",
    ).rows[0]
    assert float(planned["prompt_tokens"]) == pytest.approx(rest[0], rel=0.05)
    assert float(planned["completion_tokens"]) == pytest.approx(rest[1], rel=0.05)


def test_a_batch_is_submitted_and_collected_by_two_commands(path, capsys, monkeypatch):
    with FaultyServer(batch_polls=1) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        assert icl("--judge", "openai:m", "--batch", "--db", str(path)) == 0
        assert icl("--judge", "openai:m", "--batch", "--collect", "--db", str(path)) == 0
        assert icl("--judge", "openai:m", "--batch", "--collect", "--wait", "--poll", "1", "--db", str(path)) == 0
    err = capsys.readouterr().err
    assert "4 with the Batch API" in err
    assert "in_progress, 2 of 4" in err
    assert "collected: 4 ok; 22 scores" in err


@pytest.mark.parametrize(
    "arguments, status, message",
    [
        (["--judge", "gpt-4"], 1, "--judge cannot be 'gpt-4'; write openai:MODEL"),
        (["--judge", "openai:gpt-6-luna"], 1, "OPENAI_API_KEY is not set"),
        (["--judge", "openai:m@http://127.0.0.1:9/v1", "--max-cost", "1"], 1, "no price is stated for m"),
        (["--judge", "openai:m@http://127.0.0.1:9/v1", "--batch", "--max-cost", "1"], 1, "no price is stated"),
        (["--judge", "openai:m@http://127.0.0.1:9/v1?api-key=x"], 1, "must be a plain URL"),
        (["--judge", "local:no-such-model"], 1, "no model"),
        (["--judge", "local:smollm2-135m", "--batch"], 2, "--batch is for openai"),
        (["--judge", "local:smollm2-135m", "--collect"], 2, "--collect and --wait belong to --batch"),
        (["--judge", "openai:m@http://127.0.0.1:9/v1", "--split", "easy"], 1, "no split 'easy'"),
        (["--judge", "openai:m@http://127.0.0.1:9/v1", "--retry", "refusd"], 1, "did you mean refused?"),
        (["--judge", "openai:m", "--batch", "--collect", "--retry", "refused"], 2, "--collect sends nothing"),
        ([], 2, "--judge"),
    ],
)
def test_expected_errors_are_one_line(path, capsys, arguments, status, message):
    assert icl(*arguments, "--db", str(path)) == status
    err = capsys.readouterr().err
    assert message in " ".join(err.split())
    assert status == 2 or err.startswith("error: ")


def test_collect_without_batch_sends_nothing_from_python_either(path):
    for option in ("collect", "wait"):
        with pytest.raises(ConfigError, match="--collect and --wait belong to --batch"):
            icl_local.judge(path, judge="openai:m@http://127.0.0.1:9/v1", **{option: True})


def test_prices_are_dated_and_hold_for_their_server_alone():
    price = find_price("gpt-4o-2024-11-20", OPENAI)
    assert (price.model, price.input, price.output) == ("gpt-4o", 2.5, 10.0)
    assert price.shutdown > price.as_of > datetime.date(2026, 1, 1)
    assert find_price("gpt-4o", "http://localhost:8000/v1") is None
    assert find_price("gpt-99", OPENAI) is None


def test_a_user_s_prices_come_first_and_hold_for_any_server(tmp_path):
    file = tmp_path / "prices.toml"
    file.write_text('as_of = 2026-11-20\n[models."gpt-4o"]\ninput = 1\noutput = 2\n')
    price = find_price("gpt-4o", "http://localhost:8000/v1", prices_file=file)
    assert price.usd(1_000_000, 1_000_000) == price.usd(1_000_000, 1_000_000, batch=True) == 3.0


@pytest.mark.parametrize(
    "text", ["x =", '[models."m"]\ninput = 1\n', '[models."m"]\ninput = -1\noutput = 1\n', "a = 1"]
)
def test_a_file_that_is_not_a_price_table_is_reported(tmp_path, text):
    file = tmp_path / "prices.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"prices\.toml"):
        find_price("m", OPENAI, prices_file=file)


def test_a_budget_is_never_overdrawn_whatever_is_under_way():
    budget = Budget(1.0)
    assert budget.reserve(0.6)
    assert not budget.reserve(0.6)
    budget.settle(0.6, 0.3)
    assert budget.reserve(0.6)
    assert not budget.reserve(0.2)
    assert budget.spent_usd == 0.3


def test_a_limit_does_not_hide_how_many_are_missing(path, monkeypatch, capsys):
    with FaultyServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        assert icl("--judge", "openai:m", "--db", str(path), "--limit", "2") == 0
    assert "5 judgments were missing (the first 2 were taken), 0 were there: 2 ok" in capsys.readouterr().err
