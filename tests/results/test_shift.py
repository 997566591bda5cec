"""The views of token shift against pandas, on made-up scorings."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from icl_local import store
from icl_local.results import shift_tables

PIECES = ["Thank", " you", ".", "\n", " the", " a", "<|im_end|>", " So"]
UNDER = [("own", False), ("same", False), ("zero-shot", False), ("urial", False), ("zero-shot", True), ("urial", True)]
BINS = [(1, "1"), (2, "2"), (5, "3-5"), (10, "6-10"), (20, "11-20"), (50, "21-50"), (100, "51-100"), (200, "101-200")]
KEYS = ["language", "under_method", "under_dpo"]


def model_row(name: str, variant: str, dpo: bool) -> list[tuple[str, dict[str, object]]]:
    file = {"gguf_sha256": name, "file_name": f"{name}.gguf", "source": "file", "bytes": 1, "quantization": "Q8_0"}
    return [
        ("models", {"model_id": f"m {name}", "label": "M", "variant": variant, "dpo": dpo}),
        ("gguf_files", {**file, "vocab_sha256": "v"}),
    ]


def rows(seed: int = 3) -> list[tuple[str, dict[str, Any]]]:
    """Answers in two languages to 7 queries of up to 230 tokens, scored under every prompt; one has one token."""
    rng = random.Random(seed)
    made = [*model_row("chat", "instruct", False), *model_row("base", "base", False), *model_row("dpo", "base", True)]
    made += [("tokens", {"vocab_sha256": "v", "token_id": i, "piece": piece}) for i, piece in enumerate(PIECES)]
    at = {"created_at": store.now(), "run_id": "r"}
    for language in ("en", "es"):
        for query in range(7):
            key, length = f"{language}{query}", 1 if query == 0 else rng.randrange(2, 231)
            ended = query % 2 == 1
            tokens = [rng.randrange(len(PIECES)) for _ in range(length)]
            named = {"query_key": key, "language": language, "response_id": key}
            made.append(
                (
                    "queries",
                    {
                        "query_key": key,
                        "dataset": "d",
                        "query_id": str(query),
                        "language": language,
                        "split": "multi",
                        "instruction": key,
                    },
                )
            )
            made.append(
                (
                    "responses",
                    {
                        **named,
                        **at,
                        "model_id": "m chat",
                        "gguf_sha256": "chat",
                        "method": "instruct",
                        "settings_id": "s",
                        "cell_id": f"cell {language}",
                        "text": "",
                        "raw_text": "",
                        "finish_reason": "eog" if ended else "length",
                        "tokens": tokens,
                    },
                )
            )
            for method, dpo in UNDER:
                weights = "chat" if method == "own" else "dpo" if dpo else "base"
                logprobs = [-rng.expovariate(1) for _ in tokens]
                made.append(
                    ("scorings", {
                        **named, **at, "scoring_id": f"{key} {method} {dpo}", "kind": "answer", "method": method,
                        "model_id": f"m {weights}", "gguf_sha256": weights, "prompt_sha256": "p", "penalty": 1.1,
                        "finish_reason": "scored", "n_bytes": 3 * length, "logprob": sum(logprobs), "tokens": tokens,
                        "logprobs": logprobs, "ranks": [rng.choice([1, 1, 1, 2, 3, 4, 5, 6, 90]) for _ in tokens],
                        "ranks_decoded": [rng.choice([1, 2]) for _ in tokens], "straddles": False,
                        "retokenised": False, "top_ids": [rng.randrange(len(PIECES)) for _ in tokens],
                    })
                )  # fmt: skip
    return made


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    db = tmp_path_factory.mktemp("shift") / "x.duckdb"
    with store.Store(db) as target:
        target.put(rows())
    return db


@pytest.fixture(scope="module")
def tokens() -> pd.DataFrame:
    """A row a scored token, from the rows that were put."""
    put = rows()
    ends = {row["response_id"]: row["finish_reason"] == "eog" for table, row in put if table == "responses"}
    own = {row["response_id"]: row["ranks"] for table, row in put if table == "scorings" and row["method"] == "own"}
    found = []
    for table, row in put:
        if table != "scorings":
            continue
        for i, token in enumerate(row["tokens"]):
            found.append({
                "language": row["language"], "query": row["query_key"][2:], "answer": row["response_id"],
                "under_method": row["method"], "under_dpo": row["gguf_sha256"] == "dpo", "position": i + 1,
                "token": PIECES[token], "rank": row["ranks"][i], "own_rank": own[row["response_id"]][i],
                "rank_decoded": row["ranks_decoded"][i], "probability": math.exp(np.float32(row["logprobs"][i])),
                "top_token": PIECES[row["top_ids"][i]], "n_bytes": row["n_bytes"],
                "is_end": ends[row["response_id"]] and i == len(row["tokens"]) - 1,
            })  # fmt: skip
    return pd.DataFrame(found)


def view(path: Path, name: str) -> pd.DataFrame:
    with duckdb.connect(str(path), read_only=True) as con:
        return con.execute(f"select * from {name}").df()


def interval(part: pd.DataFrame) -> tuple[float, float]:
    """The design's formula, answer by answer: se^2 = N/(N-1) sum (x - p n)^2 / (sum n)^2."""
    answers = part.groupby("answer")["rank"].agg(n="count", x=lambda ranks: (ranks > 3).sum())
    count, share = len(answers), answers["x"].sum() / answers["n"].sum()
    if count < 2:
        return math.nan, math.nan
    squares = ((answers["x"] - share * answers["n"]) ** 2).sum()
    se = math.sqrt(count / (count - 1) * squares) / answers["n"].sum()
    half = stats.t.ppf(0.975, count - 1) * se
    return 100 * max(0, share - half), 100 * min(1, share + half)


def test_every_token_has_its_ranks_and_class(path: Path, tokens: pd.DataFrame) -> None:
    found = view(path, "token_positions").rename(columns={"response_id": "answer"})
    keys = ["answer", "under_method", "under_dpo", "position"]
    both = found.merge(tokens, on=keys, suffixes=("", "_true"))
    assert len(both) == len(found) == len(tokens)
    for name in ("token", "rank", "own_rank", "rank_decoded", "top_token", "is_end"):
        assert (both[name] == both[f"{name}_true"]).all(), name
    assert both["probability"].to_numpy() == pytest.approx(both["probability_true"].to_numpy(), rel=1e-6)
    expected = np.select([both["rank"] == 1, both["rank"] <= 3], ["unshifted", "marginal"], "shifted")
    assert (both["class"] == expected).all()


@pytest.mark.parametrize("reading", ["all", "own_top", "with_end"])
def test_shares_and_intervals(path: Path, tokens: pd.DataFrame, reading: str) -> None:
    found = view(path, "token_shift")
    found = found[found["reading"] == reading].set_index(KEYS)
    chosen = tokens if reading == "with_end" else tokens[~tokens["is_end"]]
    chosen = chosen[chosen["own_rank"] == 1] if reading == "own_top" else chosen
    assert len(found) == chosen.groupby(KEYS).ngroups == 12
    for key, part in chosen.groupby(KEYS):
        row = found.loc[key]
        assert (row["n_answers"], row["n_tokens"]) == (part["answer"].nunique(), len(part))
        rank = part["rank"]
        shares = [100 * (rank == 1).mean(), 100 * rank.between(2, 3).mean(), 100 * (rank > 3).mean()]
        assert list(row[["unshifted", "marginal", "shifted"]]) == pytest.approx(shares)
        others = [100 * (rank <= 5).mean(), 100 * (part["rank_decoded"] == 1).mean(), part["probability"].mean()]
        assert list(row[["top5", "decoded_same", "probability"]]) == pytest.approx(others)
        assert list(row[["shifted_low", "shifted_high"]]) == pytest.approx(interval(part), abs=1e-6)
        bits = -np.log2(part["probability"]).sum() / part.groupby("answer")["n_bytes"].first().sum()
        expected = pytest.approx(bits if reading != "own_top" else math.nan, nan_ok=True)
        assert row["bits_per_byte"] == expected


def test_shares_by_position(path: Path, tokens: pd.DataFrame) -> None:
    found = view(path, "token_shift_by_position").set_index([*KEYS, "positions"])
    names = [next((name for last, name in BINS if n <= last), "201-") for n in tokens["position"]]
    chosen = tokens.assign(positions=names)[~tokens["is_end"]]
    groups = chosen.groupby([*KEYS, "positions"])
    assert len(found) == groups.ngroups
    for key, part in groups:
        row = found.loc[key]
        assert (row["n_answers"], row["n_tokens"]) == (part["answer"].nunique(), len(part))
        assert row["shifted"] == pytest.approx(100 * (part["rank"] > 3).mean())
        low_high = list(row[["shifted_low", "shifted_high"]])
        assert low_high == pytest.approx(interval(part), abs=1e-6, nan_ok=True)
        assert row["first_position"] == part["position"].min()


def test_tokens_that_are_shifted(path: Path, tokens: pd.DataFrame) -> None:
    found = view(path, "shifted_tokens").set_index([*KEYS, "token"])
    chosen = tokens[~tokens["is_end"]]
    true = {key: part for key, part in chosen.groupby([*KEYS, "token"]) if (part["rank"] > 3).any()}
    assert set(found.index) == set(true)
    for key, part in true.items():
        shifted, row = part[part["rank"] > 3], found.loc[key]
        assert (row["n_shifted"], row["n"]) == (len(shifted), len(part))
        assert row["percent"] == pytest.approx(100 * len(shifted) / len(part))
        counts = shifted["top_token"].value_counts()
        assert counts[row["usual_top_token"]] == counts.max()


def test_pairs_are_over_the_same_queries(path: Path, tokens: pd.DataFrame) -> None:
    found = view(path, "token_shift_pairs")
    chosen = tokens[~tokens["is_end"] & (tokens["under_method"] != "own")]
    answers = chosen.groupby([*KEYS, "query"])["rank"].agg(n="count", x=lambda ranks: (ranks > 3).sum())
    expected = set()
    for language in ("en", "es"):
        for a, b in (("same", "zero-shot"), ("same", "urial"), ("zero-shot", "urial")):
            a, b = (b, a) if a == "same" else (a, b)  # methods of the study come first
            expected.add((language, a, False, language, b, False))
        expected.add((language, "zero-shot", True, language, "urial", True))
        expected |= {(language, method, False, language, method, True) for method in ("zero-shot", "urial")}
    expected |= {("en", method, dpo, "es", method, dpo) for method, dpo in UNDER if method != "own"}
    seen = set()
    for row in found.to_dict("records"):
        a = (row["language"], row["under_method"], row["under_dpo"])
        place = KEYS.index(row["differs_in"])
        b = (*a[:place], {"DPO": True}.get(row["b"], row["b"]), *a[place + 1 :])
        both = answers.loc[a].join(answers.loc[b].add_suffix("_b"), how="inner")
        n, p = (both["n"], both["n_b"]), (both["x"].sum() / both["n"].sum(), both["x_b"].sum() / both["n_b"].sum())
        parts = (both["x_b"] - p[1] * n[1]) / n[1].sum() - (both["x"] - p[0] * n[0]) / n[0].sum()
        half = stats.t.ppf(0.975, len(both) - 1) * math.sqrt(len(both) / (len(both) - 1) * (parts**2).sum())
        assert row["n"] == len(both)
        assert (row["shifted_a"], row["shifted_b"]) == pytest.approx((100 * p[0], 100 * p[1]))
        limits = [100 * (p[1] - p[0] + side * half) for side in (0, -1, 1)]
        assert [row["difference"], row["ci_low"], row["ci_high"]] == pytest.approx(limits, abs=1e-6)
        seen.add((*a, *b))
    assert seen == expected


def test_the_tables_show_prompts_in_order_and_tokens_that_can_be_seen(path: Path) -> None:
    shares, positions, _, most_shifted, _ = shift_tables(path, lang=["es"], tokens=2)
    base = [(method, False) for method in ("own", "same", "zero-shot", "urial")]
    order = [*base, ("zero-shot", True), ("urial", True)]
    for table in (shares, positions):
        assert [(row["under_method"], row["under_dpo"]) for row in table.dicts()] == order
    assert positions.columns[-8:] == ("1", "2", "3-5", "6-10", "11-20", "21-50", "51-100", "101-200")
    by_position = {(row["under_method"], row["under_dpo"]): row for row in positions.dicts()}
    for row in view(path, "token_shift_by_position").query("language == 'es'").to_dict("records"):
        assert by_position[row["under_method"], row["under_dpo"]][row["positions"]] == row["shifted"]
    tokens = {row[name] for row in most_shifted.dicts() for name in ("token", "usual_top_token")}
    assert tokens <= {"Thank", "␣you", ".", "⏎", "␣the", "␣a", "<|im_end|>", "␣So"}
    whole = shift_tables(path, lang=["es"], tokens=2, whole=True)
    assert {row["token"] for row in whole[3].dicts()} <= set(PIECES)


def test_every_table_names_what_tells_the_scored_cells_apart(tmp_path: Path) -> None:
    made = rows()
    (answer,) = (row for table, row in made if table == "responses" and row["response_id"] == "en3")
    (scoring,) = (row for table, row in made if table == "scorings" and row["scoring_id"] == "en3 own False")
    alone = {"response_id": "alone", "model_id": "m alone", "gguf_sha256": "chat"}  # has no prompt to compare with
    with store.Store(path := tmp_path / "x.duckdb") as target:
        target.put(made)
        target.put(
            [
                ("models", {"model_id": "m alone", "label": "Alone", "variant": "instruct", "dpo": False}),
                ("responses", {**answer, **alone, "cell_id": "cell alone"}),
                ("scorings", {**scoring, **alone, "scoring_id": "alone"}),
            ]
        )
    *ours, _ = shift_tables(path, lang=["en"])
    assert [{row["model"] for row in table.dicts()} for table in ours] == [{"M", "Alone"}, {"M", "Alone"}, {"M"}, {"M"}]
