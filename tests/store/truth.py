"""The truth about a described database: the rows that its views must show, computed from the description alone.

Each function of ``VIEWS`` returns the rows of the view of its name; the columns that it returns are compared. It is one
long file, because views read from each other and the model of one is built from those of others.
"""

from __future__ import annotations

import csv
import functools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from icl_local import resources
from icl_local.store import schema
from tests import reference
from tests.store import random_databases as made
from tests.store.random_databases import ASPECTS, ERRORS, JUDGES, TEMPLATES, UNANSWERED, Database, Row

METRICS = [*ASPECTS, "avg", "language", "safety"]
READINGS = ("strict", "just_eval")
METHODS = ["zero-shot", "urial", "instruct", "urial[k=1]", "urial[k=2]"]
NAMES = ("model", "quantization", "method", "language", "dpo", "settings_id", "dataset")
SHOWN = ("model", "method", "language", "dpo")
KERNELS = (
    "unified KV true, flash attention false, repacked true, rows from 4, KV f16, GPU layers 0, threads auto, "
    "chunks of 512"
)


def grouped(rows: Iterable[Row], *names: str) -> dict[tuple[Any, ...], list[Row]]:
    found: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        found[tuple(row[name] for name in names)].append(row)
    return dict(found)


def picked(row: Row, *names: str) -> Row:
    return {name: row[name] for name in names}


def wilson(n_errors: int, n: int) -> Row:
    low, high = proportion_confint(n_errors, n, method="wilson")
    return {
        "percent": 100 * n_errors / n,
        "n_errors": n_errors,
        "n": n,
        "ci_low": 100 * max(0, low),
        "ci_high": 100 * min(1, high),
    }


def clustered(values: Sequence[float], clusters: Sequence[object]) -> tuple[float, int]:
    """Return the standard error of a mean with equal ``clusters`` as one observation, and their number."""
    mean, sums = np.mean(values), defaultdict(float)
    for value, cluster in zip(values, clusters, strict=True):
        sums[cluster] += value - mean
    count = len(sums)
    if count < 2:
        return math.nan, count
    se = math.sqrt(count / (count - 1) * sum(total**2 for total in sums.values())) / len(values)
    return (se if se > 1e-9 else 0.0), count


def mean_row(scores: list[Row], metric: str) -> Row | None:
    """Return mean, sd, se, interval, n and df of the scores that there are."""
    given = [row for row in scores if row[metric] is not None]
    if not given:
        return None
    values = [row[metric] for row in given]
    se, count = clustered(values, [row["cluster"] for row in given])
    mean, n = float(np.mean(values)), len(values)
    low, high = (math.nan, math.nan) if count < 2 else reference.score_interval(mean, se, n, count - 1)
    if n > 1 and math.isnan(se):  # one text alone: no error can be estimated
        low = high = math.nan
    sd = float(np.std(values, ddof=1)) if n > 1 else math.nan
    return {"mean": mean, "sd": sd, "se": se, "ci_low": low, "ci_high": high, "n": n, "df": count - 1}


def holm(rows: list[Row], *names: str) -> None:
    """Set n_tests and p_holm of rows, by family: comparisons of like cells that have a p."""
    for family in grouped(rows, *names).values():
        tests = sorted((r for r in family if r["unlike"] is None and r["p"] is not None), key=lambda r: r["p"])
        for row in family:
            row.update(n_tests=len(tests), p_holm=None)
        highest = 0.0
        for place, row in enumerate(tests):
            highest = max(highest, (len(tests) - place) * row["p"])
            row["p_holm"] = min(1.0, highest)


class Truth:
    """What a database holds, from its description."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.queries: dict[str, Row] = {}
        self.responses: list[Row] = []
        self.scans: list[Row] = []
        self.judgments: list[Row] = []
        self.verifications: list[Row] = []
        for cell in database.cells:
            for answer in cell.answers:
                for earlier in (False, True) if answer.earlier else (False,):
                    self._add(cell, answer, earlier)
        texts: dict[tuple[str, str, str], list[str]] = defaultdict(list)
        for query in self.queries.values():
            texts[query["dataset"], query["language"], query["instruction"]].append(query["query_key"])
        self.clusters = {key: min(keys) for keys in texts.values() for key in keys if len(keys) > 1}
        for row in self.responses:
            row["cluster"] = self.clusters.get(row["query_key"], row["query_key"])
        self.by_id = {row["response_id"]: row for row in self.responses}
        versions = {row["detector_version"] for row in self.scans}
        self.latest = max(versions, key=lambda v: [int(part) for part in v.split(".")], default=None)

    def _add(self, cell: made.Cell, answer: made.Answer, earlier: bool) -> None:
        query = self.database.query(cell, answer, earlier)
        self.queries[query["query_key"]] = query
        if answer.forgotten:
            return
        row = made.response_row(self.database, cell, answer, earlier)
        stored = cell.row(earlier)
        weights = cell.weights
        self.responses.append(
            {
                **{k: v for k, v in query.items() if k != "dataset"},
                **row,
                "cell_id": stored["cell_id"],
                "dataset": stored["dataset"],
                "recipe": stored["recipe"],
                "settings_id": cell.settings_id or "imported",
                "settings": None if cell.settings_id is None else made.SETTINGS[cell.settings],
                "model": weights.label,
                "quantization": weights.type,
                "dpo": weights.dpo,
                "variant": weights.variant,
                "size_class": weights.size,
                "file_name": f"{weights.name}.gguf" if weights.kind == "file" else None,
                "answered": answer.finish not in UNANSWERED,
                "created_at": made.created(cell, answer, earlier),
                "named": not cell.stored_before,
                "build": made.RUNS[cell.run]["llama_build"],
            }
        )
        key = row["response_id"]
        if answer.detector is not None and answer.finish != "error":
            for error, found in zip(ERRORS, answer.found, strict=True):
                start = answer.start if found else None
                scan = {"response_id": key, "error": error, "found": found, "start_char": start}
                self.scans.append({**scan, "detector_version": answer.detector})
        if earlier or answer.finish in UNANSWERED:
            return
        for verdict in answer.verdicts:
            template = made.template_of(query["split"], verdict)
            self.judgments += made.judgment_rows(key, template, verdict)
        if answer.verified is not None and weights.kind == "file":
            self.verifications.append(made.verification_row(cell, answer))

    @functools.cached_property
    def cells(self) -> dict[str, Row]:
        rows = {}
        for (cell_id,), found in grouped(self.responses, "cell_id").items():
            answered = [row for row in found if row["answered"]]
            rows[cell_id] = {
                **picked(found[0], *NAMES, "size_class", "file_name", "recipe", "settings", "cell_id"),
                "n_responses": len(found),
                "n_multi": sum(row["split"] != "safety" for row in answered),
                "n_safety": sum(row["split"] == "safety" for row in answered),
                "last_created_at": max(row["created_at"] for row in found),
                "table_place": None,
                "in_paper_tables": False,
                "n_others": 0,
            }
        plain = [row for row in rows.values() if "[" not in row["method"]]
        for alike in grouped(plain, *SHOWN).values():
            alike.sort(
                key=lambda c: (
                    c["dataset"] != "just-eval",
                    -c["n_responses"],
                    -c["last_created_at"].timestamp(),
                    c["quantization"],
                    c["settings_id"],
                    c["cell_id"],
                )
            )
            for place, cell in enumerate(alike):
                cell.update(table_place=place + 1, in_paper_tables=place == 0, n_others=len(alike) - 1)
        return rows

    def of_cell(self, cell_id: str) -> list[Row]:
        return [row for row in self.responses if row["cell_id"] == cell_id]

    @functools.cached_property
    def outcomes(self) -> list[Row]:
        rows = []
        for scan in self.scans:
            answer = self.by_id[scan["response_id"]]
            code = scan["error"] == "unintended_code"
            if answer["answered"] and scan["detector_version"] == self.latest and not (code and answer["task"] is None):
                failed = scan["found"] and not (code and "coding" in answer["task"])
                rows.append(
                    {**picked(answer, "response_id", "cell_id", "query_id", "dataset"), **scan, "failed": failed}
                )
        return rows

    @functools.cached_property
    def verdicts(self) -> list[Row]:
        """The last attempt that ended each judgment."""
        rows = []
        for attempts in grouped(self.judgments, "judgment_id").values():
            ended = [row for row in attempts if row["status"] not in made.TRANSIENT]
            if ended:
                last = ended[-1]
                judge = next(j for j in JUDGES if j["judge_id"] == last["judge_id"])
                template = next(t for t in TEMPLATES if t["template_sha256"] == last["template_sha256"])
                rows.append(
                    {**last, "judge": judge["name"], "template": template["name"], "metrics": template["metrics"]}
                )
        return rows

    @functools.cached_property
    def scores(self) -> list[Row]:
        return [
            {**verdict, "metric": metric, "score": score, "not_applicable": na, "reason": "because"}
            for verdict in self.verdicts
            for metric, score, na in zip(verdict["metrics"], verdict["scores"], verdict["not_applicable"], strict=True)
        ]

    @functools.cached_property
    def response_scores(self) -> list[Row]:
        rows = []
        for (key, judge_id, template), verdicts in grouped(
            self.verdicts, "response_id", "judge_id", "template_sha256"
        ).items():
            for reading in READINGS:
                row: Row = {"response_id": key, "judge_id": judge_id, "template_sha256": template, "reading": reading}
                for metric in METRICS:
                    values = []
                    for verdict in verdicts:
                        if metric in verdict["metrics"]:
                            at = verdict["metrics"].index(metric)
                            value = verdict["scores"][at]
                            if verdict["not_applicable"][at] and reading == "just_eval":
                                value = 5.0
                            if value is not None:
                                values.append(value)
                    row[metric] = float(np.mean(values)) if values else None
                aspects = [row[aspect] for aspect in ASPECTS]
                row["avg"] = None if None in aspects else float(np.mean(aspects))
                rows.append({**row, **picked(verdicts[0], "judge", "template")})
        return rows

    @functools.cached_property
    def joined_scores(self) -> list[Row]:
        # the answer's language is not a metric
        return [
            {**row, **picked(self.by_id[row["response_id"]], "cell_id", "query_id", "cluster")}
            for row in self.response_scores
        ]

    @functools.cached_property
    def score_means(self) -> list[Row]:
        names = ("cell_id", "judge_id", "template_sha256", "reading")
        rows = []
        for key, scores in grouped(self.joined_scores, *names).items():
            cell = self.cells[key[0]]
            for metric in METRICS:
                mean = mean_row(scores, metric)
                if mean:
                    rows.append(
                        {
                            **picked(cell, *NAMES, "size_class", "table_place", "in_paper_tables", "cell_id"),
                            **picked(scores[0], "judge", "judge_id", "template", "template_sha256", "reading"),
                            "metric": metric,
                            **mean,
                            "n_expected": cell["n_safety"] if metric == "safety" else cell["n_multi"],
                        }
                    )
        return rows

    @functools.cached_property
    def error_rates(self) -> list[Row]:
        return [
            {
                **picked(self.cells[cell_id], *NAMES, "size_class", "in_paper_tables", "cell_id"),
                "error": error,
                **wilson(sum(row["failed"] for row in rows), len(rows)),
            }
            for (cell_id, error), rows in grouped(self.outcomes, "cell_id", "error").items()
        ]

    @functools.cached_property
    def groups(self) -> list[Row]:
        rows = []
        for answer in self.responses:
            length = len(answer["text"])
            bounds = [250, 500, 1000]
            named = ["0000-0250", "0251-0500", "0501-1000", "1001-2000"]
            parts = {
                "task": ["unknown"] if answer["task"] is None else answer["task"] or ["none"],
                "topic": ["unknown"] if answer["topic"] is None else answer["topic"] or ["none"],
                "source_set": [answer["source_set"] or "unknown"],
                "difficulty": [answer["difficulty"] or "unknown"],
                "length": [named[sum(length > bound for bound in bounds)]],
                "tag": answer["tags"] or [],
            }
            rows += [
                {"response_id": answer["response_id"], "dimension": dimension, "value": value}
                for dimension, values in parts.items()
                for value in values
            ]
        return rows

    @functools.cached_property
    def pairs(self) -> list[Row]:
        def bits(cell: Row) -> float:
            digits = "".join(c for c in cell["quantization"].split("_")[0] if c.isdigit())
            return -int(digits) if digits else math.inf

        ordered = sorted(
            self.cells.values(),
            key=lambda c: (
                c["dpo"],
                c["language"] != "en",
                c["language"],
                METHODS.index(c["method"]),
                c["model"],
                bits(c),
                c["quantization"],
                -c["n_responses"],
                -c["last_created_at"].timestamp(),
                c["cell_id"],
            ),
        )
        found: dict[tuple[Any, ...], tuple[Any, Row]] = {}
        for i, a in enumerate(ordered):
            for j in range(i + 1, len(ordered)):
                b = ordered[j]
                names = [name for name in (*SHOWN, "quantization") if a[name] != b[name]]
                parameters = a["method"] != b["method"] and "[" in a["method"] + b["method"]
                if parameters and b["method"].split("[")[0] != a["method"]:
                    continue
                if a["dataset"] != b["dataset"] or (
                    len(set(names) - {"quantization"}) != 1 and names != ["quantization"]
                ):
                    continue
                unlike = _unlike(a, b, names)
                shown = a["in_paper_tables"] and b["in_paper_tables"]
                key = tuple((a[name], b[name]) for name in SHOWN)
                if names == ["quantization"]:
                    key += ((a["quantization"], b["quantization"]),)
                rank = (
                    unlike is not None,
                    not shown,
                    a["dataset"] != "just-eval",
                    -min(a["n_responses"], b["n_responses"]),
                    i,
                    j,
                )
                pair = {
                    "differs_in": names[0],
                    "a": str(a[names[0]]).lower() if names[0] == "dpo" else a[names[0]],
                    "b": str(b[names[0]]).lower() if names[0] == "dpo" else b[names[0]],
                    **{name: None if name in names else a[name] for name in SHOWN},
                    "quantization_a": a["quantization"],
                    "quantization_b": b["quantization"],
                    "dataset": a["dataset"],
                    "in_paper_tables": shown,
                    "unlike": unlike,
                    "cell_id_a": a["cell_id"],
                    "cell_id_b": b["cell_id"],
                }
                if key not in found or rank < found[key][0]:
                    found[key] = (rank, pair)
        return [pair for _, pair in found.values()]

    @functools.cached_property
    def error_tests(self) -> list[Row]:
        outcomes = {(row["cell_id"], row["query_id"], row["error"]): row["failed"] for row in self.outcomes}
        assert len(outcomes) == len(self.outcomes)
        rows = []
        for pair in self.pairs:
            for error in ("infinite_loop", "unintended_code"):
                both = [
                    (outcomes[pair["cell_id_a"], q, error], outcomes[pair["cell_id_b"], q, error])
                    for q in sorted({key[1] for key in outcomes})
                    if (pair["cell_id_a"], q, error) in outcomes and (pair["cell_id_b"], q, error) in outcomes
                ]
                if both:
                    n, only_a = len(both), sum(a and not b for a, b in both)
                    only_b = sum(b and not a for a, b in both)
                    changed = only_a + only_b
                    rows.append(
                        {
                            **pair,
                            "family": _family(pair, "table_4", "table_6", "table_8"),
                            "error": error,
                            "n": n,
                            "percent_a": 100 * sum(a for a, _ in both) / n,
                            "percent_b": 100 * sum(b for _, b in both) / n,
                            "difference": 100 * (only_b - only_a) / n,
                            "only_a": only_a,
                            "only_b": only_b,
                            "p": float(stats.binomtest(only_a, changed).pvalue) if changed else 1.0,
                        }
                    )
        holm(rows, "family")
        return rows

    @functools.cached_property
    def differences(self) -> list[Row]:
        used: dict[tuple[Any, ...], str] = {}
        for key, rows in grouped(self.joined_scores, "cell_id", "judge_id", "template").items():
            counts = {text: len(found) for (text,), found in grouped(rows, "template_sha256").items()}
            used[key] = min(counts, key=lambda text: (-counts[text], text))
        by_cell = grouped(self.joined_scores, "cell_id")
        result = []
        for pair in self.pairs:
            both = []
            for a in by_cell.get((pair["cell_id_a"],), []):
                for b in by_cell.get((pair["cell_id_b"],), []):
                    if any(a[name] != b[name] for name in ("query_id", "judge_id", "template", "reading")):
                        continue
                    if pair["differs_in"] == "language":
                        alike = all(
                            used[side["cell_id"], side["judge_id"], side["template"]] == side["template_sha256"]
                            for side in (a, b)
                        )
                    else:
                        alike = a["template_sha256"] == b["template_sha256"]
                    if alike:
                        both.append(
                            {**picked(a, "judge_id", "judge", "template", "template_sha256", "reading"), "a": a, "b": b}
                        )
            for rows in grouped(both, "judge_id", "template_sha256", "reading").values():
                for metric in METRICS:
                    found = _difference(rows, metric)
                    if found:
                        described = picked(rows[0], "judge_id", "judge", "template", "template_sha256", "reading")
                        family = _family(pair, "table_1", "table_2", "table_3")
                        result.append({**pair, **described, "metric": metric, **found, "family": family})
        holm(result, "family", "judge_id", "template", "reading")
        return result

    @functools.cached_property
    def paper_scores(self) -> list[Row]:
        strict = [row for row in self.score_means if row["reading"] == "strict" and row["table_place"]]
        shown = []
        for alike in grouped(strict, "judge_id", *SHOWN).values():
            first = min(row["table_place"] for row in alike)
            shown += [row for row in alike if row["table_place"] == first]
        if not shown:
            return []
        counts = {judge: sum(r["n"] for r in rows) for (judge,), rows in grouped(shown, "judge_id").items()}
        judge = min(counts, key=lambda j: (-counts[j], j))
        rows = []
        parts = [{**row, "safety": row["metric"] == "safety"} for row in shown if row["judge_id"] == judge]
        for found in grouped(parts, *SHOWN, "safety").values():
            given = {text: sum(r["n"] for r in rows) for (text,), rows in grouped(found, "template_sha256").items()}
            text = min(given, key=lambda t: (-given[t], t))
            rows += [
                {**row, "origin": "ours", "paper_table": None, "canonical": True, "value": row["mean"]}
                for row in found
                if row["template_sha256"] == text
            ]
        return rows

    @functools.cached_property
    def paper_errors(self) -> list[Row]:
        return [
            {**row, "origin": "ours", "paper_table": None, "canonical": True}
            for row in self.error_rates
            if row["in_paper_tables"] and row["error"] != "infinite_loop_literal"
        ]

    @functools.cached_property
    def score_rows(self) -> list[Row]:
        found = grouped(self.paper_scores, *SHOWN)
        scored = {row["cell_id"] for row in self.paper_scores}
        rows = []
        placed = [cell for cell in self.cells.values() if cell["table_place"]]
        for alike in grouped(placed, *SHOWN).values():
            cell = min(alike, key=lambda c: (c["cell_id"] not in scored, c["table_place"]))
            scores = {row["metric"]: row for row in found.get(tuple(cell[name] for name in SHOWN), [])}
            any_score = next(iter(scores.values()), {"judge": None, "reading": None})
            multi = max((row["n"] for m, row in scores.items() if m not in ("avg", "safety")), default=0)
            rows.append(
                {
                    "origin": "ours",
                    "paper_table": None,
                    **picked(cell, *SHOWN, "size_class", "quantization", "settings_id"),
                    **{
                        printed: scores[metric]["value"] if metric in scores else None
                        for printed, metric in reference.SHOWN.items()
                    },
                    "n_judged": multi + (scores["safety"]["n"] if "safety" in scores else 0),
                    "n_expected": cell["n_multi"] + cell["n_safety"],
                    **picked(any_score, "judge", "reading"),
                }
            )
        return rows

    @functools.cached_property
    def error_rows(self) -> list[Row]:
        return [
            {
                "origin": "ours",
                "paper_table": None,
                **picked(rows[0], *SHOWN, "size_class", "quantization", "settings_id"),
                **_side_by_side(rows, ("infinite_loop", "unintended_code")),
            }
            for rows in grouped(self.paper_errors, "cell_id").values()
        ]


def _unlike(a: Row, b: Row, names: list[str]) -> str | None:
    def in_words(settings: Row) -> str:
        named = {"max_tokens": "max_tokens {}, penalty 1.1", "stop_on_loop": "stop on loop"}
        named |= {"kv_type": "KV {}", "chat_date": "date {}"}
        return ", ".join(words.format(settings[name]) for name, words in named.items() if settings.get(name))

    mine, theirs = a["settings"] or {}, b["settings"] or {}
    both = [name for name in ("kv_type", "chat_date") if mine.get(name) and theirs.get(name)]
    settings = any(mine.get(name) != theirs.get(name) for name in ("max_tokens", "stop_on_loop", *both))
    parts = []
    if a["quantization"] != b["quantization"] and len(names) > 1:
        parts.append(f"GGUF types differ ({a['quantization']}, {b['quantization']})")
    if a["method"] == b["method"] and a["language"] == b["language"] and a["recipe"] != b["recipe"]:
        parts.append("prompt texts differ")
    if settings:
        parts.append(f"settings differ ({in_words(mine)}; {in_words(theirs)})")
    return "; ".join(parts) or None


def _family(pair: Row, english: str, others: str, dpo: str) -> str:
    if "[" in (pair["method"] or pair["b"]):
        return "parameters"
    if pair["differs_in"] == "method" and not pair["dpo"]:
        return english if pair["language"] == "en" else others
    return dpo if pair["differs_in"] == "dpo" else str(pair["differs_in"])


def _difference(rows: list[Row], metric: str) -> Row | None:
    """Return the statistics of b - a over the pairs that have both scores."""
    both = [row for row in rows if row["a"][metric] is not None and row["b"][metric] is not None]
    if not both:
        return None
    n = len(both)
    change = [row["b"][metric] - row["a"][metric] for row in both]
    se, count = clustered(change, [row["a"]["cluster"] for row in both])
    mean_a, difference = float(np.mean([row["a"][metric] for row in both])), float(np.mean(change))
    if abs(difference) < 1e-12:
        difference = 0.0
    sd = float(np.std(change, ddof=1)) if n > 1 else 0.0
    sd = sd if sd > 1e-9 else 0.0
    half: float | None = None
    p: float | None = None
    if se > 0:
        half = float(stats.t.ppf(0.975, count - 1)) * se
        p = float(2 * stats.t.sf(abs(difference / se), count - 1))
    elif n > 1:
        half = 4 * (1 - 0.025 ** (1 / n))
        p = 1.0 if difference == 0 else 2 * 0.5**n
    return {
        "mean_a": mean_a,
        "mean_b": mean_a + difference,
        "difference": difference,
        "se": se,
        "ci_low": None if half is None else difference - half,
        "ci_high": None if half is None else difference + half,
        "n": n,
        "dz": difference / sd if sd else None,
        "t": difference / se if se > 0 else None,
        "df": count - 1,
        "p": p,
    }


def _side_by_side(rows: list[Row], errors: Sequence[str]) -> Row:
    found = {row["error"]: row for row in rows}
    return {
        **{error: found[error]["percent"] if error in found else None for error in errors},
        "n": found["infinite_loop"]["n"] if "infinite_loop" in found else None,
        "n_known_task": found["unintended_code"]["n"] if "unintended_code" in found else None,
    }


def agreement(truth: Truth) -> list[Row]:
    rated = [row for row in truth.scores if row["score"] is not None]
    both: dict[tuple[Any, ...], list[tuple[float, float]]] = defaultdict(list)
    names = ("judge", "judge_id", "template_sha256", "repeat")
    for found in grouped(rated, "response_id", "metric").values():
        for a in found:
            for b in found:
                first, second = (tuple(row[name] for name in names) for row in (a, b))
                if first < second:
                    language = truth.by_id[a["response_id"]]["language"]
                    pair = (*first, *second, a["template"], b["template"], a["metric"], language)
                    both[pair].append((a["score"], b["score"]))
    rows = []
    for key, pairs in both.items():
        x, y = np.array(pairs).T
        squared = float(np.mean((x - y) ** 2))
        chance = float(np.mean((x[:, None] - y[None, :]) ** 2))
        pooled = np.concatenate([x, y])
        of_all = float(((pooled[:, None] - pooled[None, :]) ** 2).sum() / (len(pooled) * (len(pooled) - 1)))
        rows.append(
            {
                **dict(zip([*(f"{name}_a" for name in names), *(f"{name}_b" for name in names)], key, strict=False)),
                "template_a": key[8],
                "template_b": key[9],
                "metric": key[10],
                "language": key[11],
                "n": len(x),
                "exact_agreement": float(np.mean(x == y)),
                "kappa_quadratic": 1 - squared / chance if chance else None,
                "alpha_interval": 1 - squared / of_all if of_all else None,
                "share_top": float(np.mean(pooled == 5)),
                "mean_a": float(x.mean()),
                "mean_b": float(y.mean()),
                "mean_difference": float(y.mean() - x.mean()),
            }
        )
    return rows


def language_agreement(truth: Truth) -> list[Row]:
    points = [
        {
            **row,
            "language": truth.by_id[row["response_id"]]["language"],
            "spoken": truth.by_id[row["response_id"]]["text_language"],
        }
        for row in truth.scores
        if row["metric"] == "language" and row["score"] is not None
    ]
    rows = []
    for found in grouped(points, "judge_id", "template_sha256", "repeat", "language").values():
        known = [(r["score"] >= 4, r["spoken"] == r["language"]) for r in found if r["spoken"] is not None]
        cells = {name: known.count(pair) for name, pair in _YES_NO.items()}
        row = {
            **picked(found[0], "judge_id", "judge", "template_sha256", "repeat", "language"),
            "n_judged": len(found),
            "n": len(known),
            "mean_language_score": float(np.mean([r["score"] for r in found])),
            "identified_share": None,
            **cells,
            "agreement": None,
            "kappa": None,
        }
        if known:
            judge, identifier = (float(np.mean(side)) for side in zip(*known, strict=True))
            agreed = (cells["both_yes"] + cells["both_no"]) / len(known)
            expected = judge * identifier + (1 - judge) * (1 - identifier)
            row.update(identified_share=identifier, agreement=agreed)
            row["kappa"] = (agreed - expected) / (1 - expected) if expected < 1 else None
        rows.append(row)
    return rows


_YES_NO = {
    "both_yes": (True, True),
    "judge_only": (True, False),
    "identifier_only": (False, True),
    "both_no": (False, False),
}


def length_effect(truth: Truth) -> list[Row]:
    names = ("judge_id", "template_sha256", "repeat", "language", "metric")
    points = [
        {**row, **picked(answer, "language", "cell_id", "cluster"), "x": len(answer["text"]) / 1000}
        for row in truth.scores
        if row["score"] is not None
        for answer in [truth.by_id[row["response_id"]]]
    ]
    rows = []
    for found in grouped(points, *names).values():
        x, y = np.array([r["x"] for r in found]), np.array([r["score"] for r in found])
        cells, queries = [r["cell_id"] for r in found], [r["cluster"] for r in found]
        within = {c: np.array([k == c for k in cells]) for c in cells}
        dx = x - np.array([x[within[c]].mean() for c in cells])
        dy = y - np.array([y[within[c]].mean() for c in cells])
        varies = any(len(set(x[mask])) > 1 for mask in within.values())
        n, n_cells, n_queries = len(x), len(within), len(set(queries))
        slope = float((dx * dy).sum() / (dx * dx).sum()) if varies else None
        se = None
        if slope is not None and n_queries > 1 and n > n_cells + 1:
            moments: dict[str, float] = defaultdict(float)
            for query, moment in zip(queries, dx * (dy - slope * dx), strict=True):
                moments[query] += moment
            meat = sum(moment**2 for moment in moments.values())
            correction = n_queries / (n_queries - 1) * (n - 1) / (n - n_cells - 1)
            se = math.sqrt(correction * meat) / float((dx * dx).sum())
        pooled = stats.linregress(x, y) if len(set(x)) > 1 else None
        rows.append(
            {
                **picked(found[0], *names, "judge", "template"),
                "n": n,
                "mean_length": 1000 * float(x.mean()),
                "slope_per_1000_characters": slope,
                "slope_se": se,
                "intercept": pooled.intercept if pooled else None,
                "r2": pooled.rvalue**2 if pooled and len(set(y)) > 1 else None,
                "slope_pooled": pooled.slope if pooled else None,
                "n_cells": n_cells,
                "n_queries": n_queries,
                "df": n_queries - 1,
            }
        )
    return rows


def quantization_effect(truth: Truth) -> list[Row]:
    names = (*SHOWN, "quantization_a", "quantization_b")
    none = dict.fromkeys(("judge", "reading", "ci_low", "ci_high", "p_holm"))
    statistics = ("metric", "mean_a", "mean_b", "difference", "n")
    rows = [picked(row, *names, *statistics, *none) for row in truth.differences if row["differs_in"] == "quantization"]
    for row in truth.error_tests:
        if row["differs_in"] == "quantization":
            shares = {"metric": row["error"], "mean_a": row["percent_a"], "mean_b": row["percent_b"]}
            rows.append({**none, **picked(row, *names, "difference", "n", "p_holm"), **shares})
    for pair in truth.pairs:
        if pair["differs_in"] == "quantization":
            a, b = (
                {r["query_id"]: r["text"] for r in truth.of_cell(pair[f"cell_id_{side}"]) if r["answered"]}
                for side in "ab"
            )
            same = [a[query] == b[query] for query in a.keys() & b.keys()]
            if same:
                share = 100 * float(np.mean(same))
                found = {"metric": "same_text", "mean_a": 100.0, "mean_b": share, "difference": share - 100}
                rows.append({**none, **picked(pair, *names), **found, "n": len(same)})
    return rows


def exactness(truth: Truth) -> list[Row]:
    rows = []
    for (sha256, build), found in grouped(truth.verifications, "gguf_sha256", "llama_build").items():
        here = [row["equal"] for row in found if row["verified_build"] == build]
        there = [row["equal"] for row in found if row["verified_build"] != build]
        exact = bool(here) and all(here)
        rows.append(
            {
                **picked(next(r for r in truth.responses if r["gguf_sha256"] == sha256), "file_name", "quantization"),
                "n_verified": len(here),
                "n_equal": sum(here),
                "differing_below": 1 - 0.01 ** (1 / len(here)) if exact else None,
                "exact": exact if here else None,
                "n_elsewhere": len(there),
                "n_equal_elsewhere": sum(there),
                "gguf_sha256": sha256,
                "llama_build": build,
                "cpu_features": "AVX2",
                "settings": KERNELS,
            }
        )
    return rows


def responses(truth: Truth) -> list[Row]:
    refuted = {
        (row["gguf_sha256"], row["llama_build"])
        for row in truth.verifications
        if not row["equal"] and row["verified_build"] == row["llama_build"]
    }
    names = (
        *NAMES,
        "response_id",
        "query_id",
        "split",
        "task",
        "topic",
        "text",
        "raw_text",
        "finish_reason",
        "new_tokens",
    )
    more = ("run_id", "created_at", "variant", "size_class", "file_name", "gguf_sha256", "instruction", "source_set")
    last = ("difficulty", "query_key", "prompt_id", "text_language", "source", "cell_id")
    return [
        {
            **picked(row, *names, *more, *last),
            "exact": False if row["named"] and (row["gguf_sha256"], row["build"]) in refuted else row["exact"],
        }
        for row in truth.responses
    ]


def progress(truth: Truth) -> list[Row]:
    rates = {(row["cell_id"], row["error"]): row["n_errors"] for row in truth.error_rates}
    rows = []
    planned = {
        cell.row(earlier)["cell_id"]: (cell, earlier) for cell in truth.database.cells for earlier in (False, True)
    }
    for cell_id, (cell, earlier) in planned.items():
        found = truth.of_cell(cell_id)
        ran = not cell.stored_before and cell.weights.kind != "import" and not earlier
        if not found and not ran:
            continue
        wanted = made.N_QUERIES if ran else len(found)
        reasons = [row["finish_reason"] for row in found]
        rows.append(
            {
                "model": cell.weights.label,
                "quantization": cell.weights.type,
                "method": cell.method,
                "language": cell.language,
                "dpo": cell.weights.dpo,
                "settings_id": cell.settings_id or "imported",
                "dataset": cell.row(earlier)["dataset"],
                "done": len(found),
                "wanted": wanted,
                "missing": wanted - len(found),
                "n_infinite_loop": rates.get((cell_id, "infinite_loop"), 0),
                "n_unintended_code": rates.get((cell_id, "unintended_code"), 0),
                "n_prompt_too_long": reasons.count("prompt_too_long"),
                "n_failed": reasons.count("error"),
                "n_at_limit": reasons.count("length"),
                "status": "done" if ran else None,
                "error": None,
                "last_created_at": max((row["created_at"] for row in found), default=None),
                "cell_id": cell_id,
            }
        )
    return rows


def study_progress(truth: Truth) -> list[Row]:
    judged = {row["response_id"] for row in truth.judgments if row["status"] not in made.TRANSIENT}
    rows = []
    for number, wanted in enumerate(truth.database.wanted):
        found = [
            (-cell["n_responses"], cell["quantization"], cell["settings_id"], cell_id)
            for cell_id, cell in truth.cells.items()
            if all(cell[name] == getattr(wanted, name) for name in SHOWN) and wanted.dataset in (None, cell["dataset"])
        ]
        best = min(found, default=(0, None, None, ""))
        rows.append(
            {
                "study": "study",
                "cell_number": number,
                **{name: getattr(wanted, name) for name in SHOWN},
                "n_done": -best[0],
                "n_wanted": made.N_QUERIES,
                "n_judged": sum(row["response_id"] in judged for row in truth.of_cell(best[3])),
                "quantization": best[1],
                "settings_id": best[2],
            }
        )
    return rows


def loop_onset(truth: Truth) -> list[Row]:
    rows = []
    loops = [
        {**scan, **picked(truth.by_id[scan["response_id"]], "cell_id", "answered", "new_tokens", "raw_text")}
        for scan in truth.scans
        if scan["error"] != "unintended_code" and scan["detector_version"] == truth.latest
    ]
    for (cell_id, error), found in grouped([r for r in loops if r["answered"]], "cell_id", "error").items():
        cell = truth.cells[cell_id]
        limit = cell["settings"]["max_tokens"] if cell["settings"] else None
        for tokens in (64, 128, 256, 512, 1024, 2048):
            if limit is None or tokens <= limit:
                begun = [
                    r for r in found if r["found"] and r["new_tokens"] * r["start_char"] / len(r["raw_text"]) < tokens
                ]
                rows.append(
                    {
                        **picked(cell, "model", "quantization", "method", "language", "dpo", "dataset", "cell_id"),
                        "error": error,
                        "max_tokens": tokens,
                        **{k: v for k, v in wilson(len(begun), len(found)).items() if not k.startswith("ci")},
                        "limit_of_cell": limit,
                    }
                )
    return rows


def error_breakdown(truth: Truth) -> list[Row]:
    by_response = grouped(truth.outcomes, "response_id")
    both = [
        {**outcome, **group}
        for group in truth.groups
        for outcome in by_response.get((group["response_id"],), [])
        if truth.cells[outcome["cell_id"]]["in_paper_tables"]
    ]
    return [
        {
            **dict(zip(("dimension", "value", "error"), key[:3], strict=True)),
            **picked(truth.cells[key[3]], *SHOWN, "quantization", "settings_id"),
            **wilson(sum(row["failed"] for row in rows), len(rows)),
        }
        for key, rows in grouped(both, "dimension", "value", "error", "cell_id").items()
    ]


def score_breakdown(truth: Truth) -> list[Row]:
    groups = grouped(truth.groups, "response_id")
    both = [
        {**score, **group}
        for score in truth.joined_scores
        if truth.cells[score["cell_id"]]["in_paper_tables"]
        for group in groups[score["response_id"],]
    ]
    rows = []
    for found in grouped(both, "dimension", "value", "cell_id", "judge_id", "template_sha256", "reading").values():
        for metric in METRICS:
            mean = mean_row(found, metric)
            if mean:
                del mean["df"]
                rows.append(
                    {
                        **picked(found[0], "dimension", "value", "judge", "reading", "template", "template_sha256"),
                        **picked(truth.cells[found[0]["cell_id"]], *SHOWN, "quantization", "settings_id"),
                        "metric": metric,
                        **mean,
                    }
                )
    return rows


def judgments(truth: Truth) -> list[Row]:
    names = ("model", "quantization", "method", "language", "dpo", "query_id", "split")
    scored = ("ok", "repaired", "not_applicable", "incomplete", "out_of_range")
    return [
        {
            **picked(row, "judgment_id", "attempt", "response_id", "judge_id", "template_sha256", "repeat", "status"),
            **picked(truth.by_id[row["response_id"]], *names),
            "judge": next(j["name"] for j in JUDGES if j["judge_id"] == row["judge_id"]),
            "template": next(t["name"] for t in TEMPLATES if t["template_sha256"] == row["template_sha256"]),
            "scored": row["status"] in scored,
            "transient": row["status"] in made.TRANSIENT,
            **picked(row, "prompt_tokens", "seconds"),
        }
        for row in truth.judgments
    ]


def judge_ledger(truth: Truth) -> list[Row]:
    attempts = judgments(truth)
    final = {row["judgment_id"]: row["status"] for row in attempts}
    attempts = [{**row, "status": final[row["judgment_id"]]} for row in attempts]
    names = ("judge_id", "judge", "template", "template_sha256", "language", "status")
    return [
        {
            **picked(rows[0], *names),
            "n_judgments": len({row["judgment_id"] for row in rows}),
            "n_attempts": len(rows),
            "prompt_tokens": 10 * len(rows),
            "seconds": 0.5 * len(rows),
        }
        for rows in grouped(attempts, *names).values()
    ]


def lineage(truth: Truth) -> list[Row]:
    judged = defaultdict(set)
    for row in truth.judgments:
        judged[truth.by_id[row["response_id"]]["gguf_sha256"]].add(row["judgment_id"])
    return [
        {
            "gguf_sha256": weights.sha256,
            "file_name": f"{weights.name}.gguf",
            "quantization": weights.type,
            "n_responses": sum(row["gguf_sha256"] == weights.sha256 for row in truth.responses),
            "n_judgments": len(judged[weights.sha256]),
        }
        for weights in made.WEIGHTS
        if weights.sha256
    ]


def critical_errors(truth: Truth) -> list[Row]:
    names = (*NAMES, "response_id", "query_id", "task", "finish_reason", "text", "raw_text")
    rows = []
    for scan in truth.scans:
        if scan["found"]:
            answer = truth.by_id[scan["response_id"]]
            counted: bool | None = True
            if scan["error"] == "unintended_code":
                counted = None if answer["task"] is None else "coding" not in answer["task"]
            rows.append(
                {
                    **picked(answer, *names),
                    **picked(scan, "error", "start_char", "detector_version"),
                    "counted": counted,
                }
            )
    return rows


def broken_references(truth: Truth) -> list[Row]:
    scanned = {row["response_id"] for row in truth.scans}
    return [
        {
            "table_name": "responses",
            "column_name": "response_id (no critical_errors)",
            "key": row["response_id"],
        }
        for row in truth.responses
        if row["finish_reason"] != "error" and row["response_id"] not in scanned
    ]


def throughput(truth: Truth) -> list[Row]:
    rows = []
    for cell in truth.database.cells:
        if not cell.stored_before and cell.weights.kind != "import":
            n = len(cell.answers)
            rows.append(
                {
                    "model": cell.weights.label,
                    "quantization": cell.weights.type,
                    "method": cell.method,
                    "language": cell.language,
                    "dpo": cell.weights.dpo,
                    "settings_id": cell.settings_id,
                    "n_done": n,
                    "new_tokens_per_second": 100 / 8,
                    "decode_tokens_per_second": 100 / 5,
                    "prefill_tokens_per_second": 40 / 2,
                    "responses_per_hour": 3600 * n / 8,
                    "llama_build": made.RUNS[cell.run]["llama_build"],
                    "run_id": made.RUNS[cell.run]["run_id"],
                    "process_id": f"process of {cell.row()['cell_id']}",
                }
            )
    return rows


def verdicts(truth: Truth) -> list[Row]:
    rows = []
    for verdict in truth.verdicts:
        row = picked(
            verdict,
            "response_id",
            "judge_id",
            "judge",
            "template_sha256",
            "template",
            "repeat",
            "judgment_id",
            "attempt",
            "status",
            "metrics",
            "scores",
            "not_applicable",
            "reasons",
        )
        given = dict(
            zip(verdict["metrics"], zip(verdict["scores"], verdict["not_applicable"], strict=True), strict=True)
        )
        for metric in METRICS:
            if metric != "avg":
                score, na = given.get(metric, (None, False))
                row[metric], row[f"{metric}_with_na"] = score, 5.0 if na else score
        rows.append(row)
    return rows


def versus_paper(truth: Truth) -> list[Row]:
    scores = {tuple(row[name] for name in (*SHOWN, "metric")): row for row in truth.paper_scores}
    errors = {tuple(row[name] for name in (*SHOWN, "error")): row for row in truth.paper_errors}
    literal = {
        tuple(row[name] for name in SHOWN): row["percent"]
        for row in truth.error_rates
        if row["in_paper_tables"] and row["error"] == "infinite_loop_literal"
    }
    rows = []
    for table, kind, value in (
        ("published_scores", "metric", "published"),
        ("published_errors", "error", "published_percent"),
    ):
        for cell in csv.DictReader(resources.read_text("db", f"published/{schema.PUBLISHED[table]}").splitlines()):
            dpo, metric, printed = cell["dpo"] == "true", cell[kind], float(cell[value])
            key = (cell["model"], cell["method"], cell["language"], dpo)
            ours = (scores if kind == "metric" else errors).get((*key, metric))
            row = {
                "paper_table": cell["paper_table"],
                "language": cell["language"],
                "model": cell["model"],
                "method": cell["method"],
                "dpo": dpo,
                "metric": metric,
                "published": printed,
                **dict.fromkeys(_COMPARED),
                "ours_literal": literal.get(key) if metric == "infinite_loop" else None,
                "loops": "strict" if metric == "infinite_loop" else None,
            }
            if ours:
                mine = ours["value"] if kind == "metric" else ours["percent"]
                row.update(picked(ours, "ci_low", "ci_high", "n", "quantization", "settings_id", "dataset"))
                row.update(ours=mine, difference=mine - printed)
                row["published_inside"] = (
                    None if math.isnan(ours["ci_low"]) else ours["ci_low"] <= printed <= ours["ci_high"]
                )
                if kind == "metric":
                    row.update(picked(ours, "judge", "reading", "n_expected"))
                    row["same_judge"] = ours["judge"] == "openai:gpt-4-1106-preview"
                else:
                    row["n_expected"] = ours["n"]
                    low, high = confint_proportions_2indep(
                        ours["n_errors"], ours["n"], round(10 * printed), 1000, method="newcomb", compare="diff"
                    )
                    row.update(difference_low=100 * low, difference_high=100 * high)
            rows.append(row)
    return rows


_COMPARED = (
    "ours",
    "difference",
    "ci_low",
    "ci_high",
    "published_inside",
    "n",
    "n_expected",
    "judge",
    "reading",
    "quantization",
    "settings_id",
    "same_judge",
    "dataset",
)


def table(rows: list[Row], *left_out: str, **equal: object) -> list[Row]:
    return [
        {name: value for name, value in row.items() if name not in ("origin", "paper_table", *left_out)}
        for row in rows
        if all(row[name] == value for name, value in equal.items())
    ]


def figure(rows: list[Row], *names: str) -> list[Row]:
    return [picked(row, *names, "ci_low", "ci_high", "n") for row in rows]


def figure_2(truth: Truth) -> list[Row]:
    shown = [row for row in truth.paper_scores if not row["dpo"] and row["metric"] != "avg"]
    spoken = {model: {row["language"] for row in rows} for (model,), rows in grouped(shown, "model").items()}
    return figure(
        [row for row in shown if len(spoken[row["model"]]) > 1], "language", "model", "method", "metric", "value"
    )


def figure_3(truth: Truth) -> list[Row]:
    shown = [row for row in truth.paper_scores if row["metric"] != "avg"]
    aligned = {(row["language"], row["model"]) for row in shown if row["dpo"]}
    return figure([row for row in shown if (row["language"], row["model"]) in aligned], *SHOWN, "metric", "value")


def paper_values(truth: Truth) -> list[Row]:
    names = (
        "origin",
        "paper_table",
        "canonical",
        "language",
        "model",
        "size_class",
        "method",
        "dpo",
        "ci_low",
        "ci_high",
        "n",
        "quantization",
        "settings_id",
        "dataset",
    )
    mine = ("metric", "value", "n_expected", "judge", "reading", "sd", "se", "df")
    return [
        *({**picked(row, *names, *mine), "n_errors": None} for row in truth.paper_scores),
        *(
            {
                **dict.fromkeys(mine),
                **picked(row, *names, "n_errors"),
                "metric": row["error"],
                "value": row["percent"],
                "n_expected": row["n"],
            }
            for row in truth.paper_errors
        ),
    ]


def without(rows: Iterable[Row], *names: str) -> list[Row]:
    return [{name: value for name, value in row.items() if name not in names} for row in rows]


VIEWS: dict[str, Callable[[Truth], list[Row]]] = {
    "broken_references": broken_references,
    "cell_pairs": lambda truth: truth.pairs,
    "cells": lambda truth: without(truth.cells.values(), "recipe", "settings"),
    "critical_errors": critical_errors,
    "error_breakdown": error_breakdown,
    "error_rates": lambda truth: truth.error_rates,
    "error_tests": lambda truth: truth.error_tests,
    "errors_by_cell": lambda truth: [
        {**picked(rows[0], *NAMES, "cell_id"), **_side_by_side(rows, ERRORS)}
        for rows in grouped(truth.error_rates, "cell_id").values()
    ],
    "exactness": exactness,
    "figure_2": figure_2,
    "figure_3": figure_3,
    "figure_4": lambda truth: figure(truth.paper_errors, *SHOWN, "error", "percent"),
    "judge_agreement": agreement,
    "judge_ledger": judge_ledger,
    "judgments": judgments,
    "language_agreement": language_agreement,
    "length_effect": length_effect,
    "lineage": lineage,
    "loop_onset": loop_onset,
    "paired_differences": lambda truth: without(truth.differences, "judge_id"),
    "paper_cells": lambda truth: [
        picked(
            cell,
            *SHOWN,
            "quantization",
            "settings_id",
            "size_class",
            "n_responses",
            "n_multi",
            "n_safety",
            "last_created_at",
            "cell_id",
        )
        for cell in truth.cells.values()
        if cell["in_paper_tables"]
    ],
    "paper_error_rows": lambda truth: truth.error_rows,
    "paper_errors": lambda truth: without(truth.paper_errors, "cell_id", "in_paper_tables"),
    "paper_score_rows": lambda truth: truth.score_rows,
    "paper_scores": lambda truth: without(
        truth.paper_scores, "mean", "cell_id", "table_place", "in_paper_tables", "judge_id", "template_sha256", "safety"
    ),
    "paper_values": paper_values,
    "progress": progress,
    "quantization_effect": quantization_effect,
    "query_clusters": lambda truth: [{"query_key": key, "cluster": cluster} for key, cluster in truth.clusters.items()],
    "response_errors": lambda truth: without(truth.outcomes, "found", "start_char", "detector_version"),
    "response_groups": lambda truth: truth.groups,
    "response_scores": lambda truth: truth.response_scores,
    "responses": responses,
    "score_breakdown": score_breakdown,
    "score_means": lambda truth: truth.score_means,
    "scores": lambda truth: [
        picked(
            row,
            "response_id",
            "judge_id",
            "judge",
            "template_sha256",
            "template",
            "repeat",
            "judgment_id",
            "attempt",
            "status",
            "metric",
            "score",
            "not_applicable",
        )
        for row in truth.scores
    ],
    "size_scores": lambda truth: [
        {
            **picked(row, "metric", *SHOWN, "value", "ci_low", "ci_high", "n"),
            "parameters": 10**9 if row["size_class"] == "small" else 9 * 10**9,
        }
        for row in truth.paper_scores
        if row["metric"] in ("avg", "safety")
    ],
    "study_progress": study_progress,
    "table_1": lambda truth: table(truth.score_rows, "language", "size_class", "dpo", language="en", dpo=False),
    "table_2": lambda truth: table(truth.score_rows, "size_class", "dpo", dpo=False),
    "table_3": lambda truth: table(truth.score_rows, "size_class"),
    "table_4": lambda truth: table(truth.error_rows, "language", "size_class", "dpo", language="en", dpo=False),
    "table_6": lambda truth: [
        row for row in table(truth.error_rows, "size_class", "dpo", dpo=False) if row["language"] != "en"
    ],
    "table_8": lambda truth: table(truth.error_rows, "size_class"),
    "throughput": throughput,
    "verdicts": verdicts,
    "verifications": lambda truth: [
        {
            **picked(
                truth.by_id[row["response_id"]], "model", "quantization", "method", "language", "dataset", "query_id"
            ),
            **picked(row, "equal", "n_tokens", "llama_build", "verified_build", "response_id", "verification_id"),
            "settings": KERNELS,
        }
        for row in truth.verifications
    ],
    "versus_paper": versus_paper,
}
