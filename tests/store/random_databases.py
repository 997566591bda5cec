"""Descriptions of small databases, a strategy that draws them, and the rows that they stand for.

A description names its cells by what they are. Nothing in it depends on time or on chance outside hypothesis.
Description, strategy and writer stand in one file of 500 lines: a new field changes all three.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from icl_local.identity import cell_key, judgment_key, key_of
from icl_local.prompting import Prompt

Row = dict[str, Any]
Put = list[tuple[str, Row]]

ASPECTS = ("helpfulness", "clarity", "factuality", "depth", "engagement")
ERRORS = ("infinite_loop", "infinite_loop_literal", "unintended_code")
DATASETS = ("just-eval", "own", "red")
LANGUAGES = ("en", "es", "fr")
N_QUERIES = 4  # of each set; the ids are the same in all sets
UNANSWERED = ("prompt_too_long", "error")
TRANSIENT = ("http_error", "quota")
KERNELS = {"min_rows": 4, "kv_unified": True, "flash_attn": False}


@dataclass(frozen=True)
class Weights:
    """A GGUF file (``type``), a server or a file of imported texts."""

    name: str
    label: str
    kind: str
    type: str = "none"
    variant: str = "base"
    dpo: bool = False

    @property
    def model_id(self) -> str:
        return key_of(kind="model", label=self.label, variant=self.variant, dpo=self.dpo)

    @property
    def sha256(self) -> str | None:
        return f"sha256 of {self.name}" if self.kind == "file" else None

    @property
    def key(self) -> str:
        if self.kind == "import":
            return f"imported:{self.name}:{self.model_id}"
        return self.sha256 or f"openai:{self.label}@{self.name}"

    @property
    def size(self) -> str:
        return "small" if self.label == "Llama3.2 1B" else "medium"


WEIGHTS = (
    Weights("a", "Llama3.2 1B", "file", "Q4_K_M"),
    Weights("b", "Llama3.2 1B", "file", "Q4_K_M"),
    Weights("c", "Llama3.2 1B", "file", "Q8_0"),
    Weights("d", "Llama3.2 1B", "file", "Q4_K_M", dpo=True),
    Weights("e", "Llama3.2 1B", "file", "Q4_K_M", variant="instruct"),
    Weights("f", "EuroLLM 9B", "file", "Q8_0"),
    Weights("g", "EuroLLM 9B", "file", "Q4_K_M", dpo=True),
    Weights("http://s", "EuroLLM 9B", "server"),
    Weights("http://t", "EuroLLM 9B", "server"),
    Weights("u.jsonl", "Llama3.2 1B", "import", variant="imported"),
    Weights("v.jsonl", "Llama3.2 1B", "import", variant="imported"),
)
SETTINGS = (
    {"settings_id": "long", "max_tokens": 256, "stop_on_loop": False, "kv_type": "f16", "chat_date": "2024-07-26"},
    {"settings_id": "short", "max_tokens": 64, "stop_on_loop": True, "kv_type": None, "chat_date": None},
    {"settings_id": "wide", "max_tokens": 256, "stop_on_loop": False, "kv_type": "f32", "chat_date": None},
    {"settings_id": "later", "max_tokens": 256, "stop_on_loop": False, "kv_type": "f16", "chat_date": "2025-02-03"},
)
JUDGES = (
    {"judge_id": "j1", "name": "openai:gpt-4-1106-preview"},
    {"judge_id": "j2", "name": "local:judge.gguf"},
    {"judge_id": "j3", "name": "openai:gpt-4-1106-preview"},  # the same name with other settings
)
TEMPLATES = (
    {"template_sha256": "t1", "name": "multi", "metrics": [*ASPECTS]},
    {"template_sha256": "t2", "name": "multi", "metrics": ["depth", "language", *(m for m in ASPECTS if m != "depth")]},
    {"template_sha256": "t3", "name": "safety", "metrics": ["safety"]},
    {"template_sha256": "t4", "name": "safety", "metrics": ["safety"]},
)
RUNS = ({"run_id": "r1", "llama_build": "b1"}, {"run_id": "r2", "llama_build": "b2"})


@dataclass(frozen=True)
class Attempt:
    """``digits`` in base 7 are the scores by metric: 0 to 4 one less than the score, 5 none, 6 N/A."""

    status: str
    digits: int

    def scores(self, n: int) -> tuple[list[float | None] | None, list[bool] | None]:
        """Return scores and N/A of ``n`` metrics; NULL for an attempt that is followed by another."""
        if self.status in TRANSIENT:
            return None, None
        if self.status == "parse_error":
            return [None] * n, [False] * n
        digits = [self.digits // 7**i % 7 for i in range(n)]
        return [digit + 1.0 if digit < 5 else None for digit in digits], [digit == 6 for digit in digits]


@dataclass(frozen=True)
class Verdict:
    """A judgment by a judge, the first or second template of the query's split, and a repeat."""

    judge: int
    template: int
    repeat: int
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True)
class Answer:
    """A response to a query and what was made of it."""

    query: int
    finish: str
    length: int
    start: int
    spoken: str | None
    found: tuple[bool, bool, bool]
    detector: str | None
    scanned_before: bool
    retried: bool
    forgotten: bool
    earlier: bool
    verified: str | None
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True)
class Cell:
    """A cell and its answers; ``stored_before``: by a version that did not name cells."""

    weights: Weights
    method: str
    edit: int
    dataset: str
    language: str
    settings: int
    stored_before: bool
    run: int
    day: int
    answers: tuple[Answer, ...]

    @property
    def settings_id(self) -> str | None:
        return None if self.weights.kind == "import" else str(SETTINGS[self.settings]["settings_id"])

    def prompt(self, text: str) -> Prompt | None:
        """Return the prompt for a query, None for imported texts."""
        if self.weights.kind == "import":
            return None
        if self.method == "instruct":
            chat = f"<user>{text}"
            return Prompt(text=chat, head=chat, tail=None, stops=(), method=self.method, language=self.language)
        head = f"{self.method} {self.language} {self.edit}"
        stops = ("# Query:",)
        return Prompt(text=head + text, head=head, tail="", stops=stops, method=self.method, language=self.language)

    @property
    def recipe(self) -> str:
        prompt = self.prompt("")
        return prompt.recipe if prompt else f"imported:{self.method}"

    def row(self, earlier: bool = False) -> Row:
        """Return the row of raw.cells; earlier texts of its queries stand in a cell of their own."""
        parts = {
            "weights": self.weights.key,
            "recipe": self.recipe,
            "dataset": f"{self.dataset} (earlier text 1)" if earlier else self.dataset,
            "language": self.language,
            "settings_id": self.settings_id or "imported",
        }
        return {
            "cell_id": cell_key(**parts),
            **parts,
            "method": self.method,
            "model_id": self.weights.model_id,
            "gguf_sha256": self.weights.sha256,
        }


@dataclass(frozen=True)
class Asked:
    """What a query is in all languages; ``text`` equal to that of another query of the set is a repeated query."""

    text: int
    split: str
    task: tuple[str, ...] | None
    topic: tuple[str, ...] | None
    tags: tuple[str, ...] | None
    source_set: str | None
    difficulty: str | None


@dataclass(frozen=True)
class Wanted:
    """A cell that a study asks for."""

    model: str
    method: str
    language: str
    dpo: bool
    dataset: str | None


@dataclass(frozen=True)
class Database:
    queries: tuple[tuple[Asked, ...], ...]  # by data set and query
    cells: tuple[Cell, ...]
    wanted: tuple[Wanted, ...]

    def query(self, cell: Cell, answer: Answer, earlier: bool = False) -> Row:
        """Return the row of raw.queries."""
        asked = self.queries[DATASETS.index(cell.dataset)][answer.query]
        text = f"{cell.dataset} in {cell.language}: {asked.text}{' once' if earlier else ''}?"
        name = {"dataset": cell.dataset, "query_id": str(answer.query), "language": cell.language}
        return {
            "query_key": key_of(kind="query", **name, instruction=text),
            **name,
            "split": asked.split,
            "task": asked.task if asked.task is None else list(asked.task),
            "topic": asked.topic if asked.topic is None else list(asked.topic),
            "tags": asked.tags if asked.tags is None else list(asked.tags),
            "source_set": asked.source_set,
            "difficulty": asked.difficulty,
            "instruction": text,
        }


def response_id(cell: Cell, answer: Answer, earlier: bool = False) -> str:
    return key_of(kind="response", cell=cell.row()["cell_id"], query=answer.query, earlier=earlier)


def created(cell: Cell, answer: Answer, earlier: bool = False) -> datetime:
    return datetime(2026, 11, 1) + timedelta(days=cell.day, minutes=answer.query, hours=-1 if earlier else 0)


def judgment_rows(key: str, template: Row, verdict: Verdict) -> list[Row]:
    """Return the rows of raw.judgments."""
    judge_id = str(JUDGES[verdict.judge]["judge_id"])
    parts: Row = {"response_id": key, "judge_id": judge_id, "template_sha256": template["template_sha256"]}
    rows = []
    for number, attempt in enumerate(verdict.attempts, 1):
        scores, not_applicable = attempt.scores(len(template["metrics"]))
        rows.append(
            {
                "judgment_id": judgment_key(**parts, repeat=verdict.repeat),
                "attempt": number,
                **parts,
                "repeat": verdict.repeat,
                "status": attempt.status,
                "scores": scores,
                "not_applicable": not_applicable,
                "reasons": None if scores is None else ["because"] * len(scores),
                "prompt_tokens": 10,
                "seconds": 0.5,
                "created_at": "2026-11-20T00:00:00",
            }
        )
    return rows


def template_of(split: str, verdict: Verdict) -> Row:
    return dict(TEMPLATES[verdict.template + 2 * (split == "safety")])


def puts(database: Database) -> list[Put]:
    """Return the rows in the order in which a store got them: one list a put."""
    first: Put = [
        *(("settings", {"backend": "llama.cpp", "repetition_penalty": 1.1, **row}) for row in SETTINGS),
        *(("judges", {"backend": "openai", "model": "m", **row}) for row in JUDGES),
        *(("judge_templates", {"text": row["template_sha256"], **row}) for row in TEMPLATES),
        *(("datasets", {"dataset": name, "source": name}) for name in DATASETS),
        *(
            ("runs", {"command": "run", "version": "1", "started_at": "2026-11-01", "cpu_features": "AVX2", **row})
            for row in RUNS
        ),
    ]
    for weights in WEIGHTS:
        model: Row = {"model_id": weights.model_id, "label": weights.label, "variant": weights.variant}
        size = {"size_class": weights.size, "parameters": 10**9 if weights.size == "small" else 9 * 10**9}
        first.append(("models", {**model, "dpo": weights.dpo, **size}))
        if weights.sha256:
            file: Row = {"gguf_sha256": weights.sha256, "file_name": f"{weights.name}.gguf", "source": "file"}
            first.append(("gguf_files", {**file, "bytes": 1, "quantization": weights.type}))
    failed: Put = []
    answered: Put = []
    rescanned: Put = []
    forgotten: Put = []
    for cell in database.cells:
        if not cell.stored_before:
            first.append(("cells", cell.row()))
            if cell.weights.kind != "import":
                first.append(("run_cells", process_row(cell)))
        for answer in cell.answers:
            for earlier in (False, True) if answer.earlier else (False,):
                key = response_id(cell, answer, earlier)
                query = database.query(cell, answer, earlier)
                answered.append(("queries", query))
                row = response_row(database, cell, answer, earlier)
                prompt = cell.prompt(query["instruction"])
                if prompt:
                    answered.append(("prompts", prompt.row()))
                if answer.retried:
                    failed.append(("responses", {**row, "text": "", "raw_text": "", "finish_reason": "error"}))
                answered.append(("responses", row))
                if answer.detector is not None and answer.finish != "error":
                    now = rescanned if answer.scanned_before else answered
                    for error, found in zip(ERRORS, answer.found, strict=True):
                        scan = {"response_id": key, "error": error, "start_char": answer.start if found else None}
                        now.append(("critical_errors", {**scan, "found": found, "detector_version": answer.detector}))
                        if answer.scanned_before:
                            before = {**scan, "found": not found, "detector_version": "0.9.0"}
                            answered.append(("critical_errors", before))
                if earlier:
                    continue
                if answer.forgotten:
                    stone = {"table_name": "responses", "key": key, "active": True, "created_at": "2026-11-25"}
                    forgotten.append(("tombstones", stone))
                if answer.finish in UNANSWERED:
                    continue
                for verdict in answer.verdicts:
                    template = template_of(query["split"], verdict)
                    answered += [("judgments", row) for row in judgment_rows(key, template, verdict)]
                if answer.verified is not None and cell.weights.kind == "file":
                    answered.append(("verifications", verification_row(cell, answer)))
    for number, cell_wanted in enumerate(database.wanted):
        wanted = {"study_id": "s", "study": "study", "cell_number": number, **vars(cell_wanted)}
        first.append(("study_cells", {**wanted, "n_wanted": N_QUERIES, "created_at": "2026-11-01"}))
    return [put for put in (first, failed, answered, rescanned, forgotten) if put]


def process_row(cell: Cell) -> Row:
    """Return the row of raw.run_cells."""
    row = cell.row()
    shared = {name: row[name] for name in ("cell_id", "model_id", "gguf_sha256", "method", "language", "settings_id")}
    return {
        "run_cell_id": f"process of {row['cell_id']}",
        "run_id": RUNS[cell.run]["run_id"],
        **shared,
        "status": "done",
        "n_wanted": N_QUERIES,
        "n_done": len(cell.answers),
        "engine_settings": KERNELS,
        "new_tokens": 100,
        "prompt_tokens": 50,
        "prefilled_tokens": 40,
        "wall_seconds": 8.0,
        "decode_seconds": 5.0,
        "prefill_seconds": 2.0,
    }


def response_row(database: Database, cell: Cell, answer: Answer, earlier: bool = False) -> Row:
    """Return the row of raw.responses."""
    query = database.query(cell, answer, earlier)
    prompt = cell.prompt(query["instruction"])
    text = "" if answer.finish in UNANSWERED else "x" * answer.length
    return {
        "response_id": response_id(cell, answer, earlier),
        "model_id": cell.weights.model_id,
        "gguf_sha256": cell.weights.sha256,
        "query_key": query["query_key"],
        "prompt_id": prompt.prompt_id if prompt else None,
        "settings_id": cell.settings_id,
        "run_id": RUNS[cell.run]["run_id"],
        "method": cell.method,
        "language": cell.language,
        "text": text,
        "raw_text": text,
        "finish_reason": answer.finish,
        "new_tokens": answer.length // 4,
        "exact": True if cell.weights.kind == "file" else None,
        "text_language": answer.spoken,
        "source": cell.weights.name if cell.weights.kind == "import" else None,
        "created_at": created(cell, answer, earlier).isoformat(),
        "cell_id": None if cell.stored_before else cell.row()["cell_id"],
    }


def verification_row(cell: Cell, answer: Answer) -> Row:
    """Return the row of raw.verifications."""
    build = RUNS[cell.run]["llama_build"]
    return {
        "verification_id": f"verification of {response_id(cell, answer)}",
        "response_id": response_id(cell, answer),
        "cell_id": cell.row()["cell_id"],
        "gguf_sha256": cell.weights.sha256,
        "llama_build": build,
        "cpu_features": "AVX2",
        "settings": KERNELS,
        "equal": answer.verified == "equal",
        "n_tokens": answer.length // 4,
        "verified_build": "b9" if answer.verified == "differs elsewhere" else build,
        "verified_cpu_features": "AVX2",
        "created_at": "2026-11-21",
    }


def _verdicts() -> st.SearchStrategy[tuple[Verdict, ...]]:
    attempt = st.builds(
        Attempt, st.sampled_from(["ok", "ok", "ok", "parse_error", "http_error", "quota"]), st.integers(0, 7**6 - 1)
    )
    verdict = st.builds(
        Verdict,
        st.integers(0, len(JUDGES) - 1),
        st.integers(0, 1),
        st.integers(0, 1),
        st.lists(attempt, min_size=1, max_size=2).map(tuple),
    )
    return st.lists(verdict, max_size=3, unique_by=lambda v: (v.judge, v.template, v.repeat)).map(tuple)


def _answers() -> st.SearchStrategy[tuple[Answer, ...]]:
    rarely = st.integers(0, 7).map(lambda number: number == 7)
    answer = st.builds(
        Answer,
        query=st.integers(0, N_QUERIES - 1),
        finish=st.sampled_from(["stop", "stop", "length", "eog", *UNANSWERED]),
        length=st.sampled_from([40, 120, 300, 900]),
        start=st.sampled_from([0, 30]),
        spoken=st.sampled_from([None, *LANGUAGES]),
        found=st.tuples(st.booleans(), st.booleans(), st.booleans()),
        detector=st.sampled_from(["1.10.0", "1.10.0", "1.10.0", "1.9.0", None]),
        scanned_before=rarely,
        retried=rarely,
        forgotten=rarely,
        earlier=st.just(False),
        verified=st.sampled_from([None, None, "equal", "differs", "differs elsewhere"]),
        verdicts=_verdicts(),
    )
    return st.lists(answer, min_size=2, max_size=N_QUERIES, unique_by=lambda a: a.query).map(tuple)


@st.composite
def _cells(draw: st.DrawFn) -> Cell:
    weights = draw(st.sampled_from(WEIGHTS))
    method = draw(st.sampled_from(["urial", "zero-shot", "instruct", "urial[k=1]", "urial[k=2]"]))
    before = weights.kind != "server" and draw(st.booleans())
    answers = draw(_answers())
    if before:
        earlier = draw(st.sets(st.integers(0, N_QUERIES - 1), max_size=2))
        answers = tuple(
            Answer(**{**vars(answer), "earlier": answer.query in earlier and not answer.forgotten})
            for answer in answers
        )
    return Cell(
        weights=weights,
        method=method,
        edit=draw(st.integers(0, 1)) if method != "instruct" and weights.kind != "import" else 0,
        dataset=draw(st.sampled_from(DATASETS)),
        language=draw(st.sampled_from(LANGUAGES)),
        settings=draw(st.integers(0, len(SETTINGS) - 1)) if weights.kind != "import" else 0,
        stored_before=before,
        run=draw(st.integers(0, 1)),
        day=draw(st.integers(0, 2)),
        answers=answers,
    )


@st.composite
def _neighbours(draw: st.DrawFn) -> tuple[Cell, ...]:
    """Draw cells of which most differ from one before in one part or two, so that there is something to compare."""
    cells = [draw(_cells())]
    parts = st.sampled_from(["weights", "method", "edit", "dataset", "language", "settings"])
    for _ in range(draw(st.integers(0, 7))):
        other = vars(draw(_cells()))
        model = vars(draw(st.sampled_from(cells)))
        changed = draw(st.sets(parts, min_size=1, max_size=2))
        cell = Cell(**{**other, **{name: model[name] for name in set(model) - changed - {"answers", "day", "run"}}})
        if cell.weights.kind != "server" or not cell.stored_before:
            cells.append(_sound(cell))
    found = {cell.row()["cell_id"]: cell for cell in reversed(cells)}
    return tuple(reversed(found.values()))


def _sound(cell: Cell) -> Cell:
    """Return the cell without what its parts rule out."""
    answers = tuple(
        Answer(**{**vars(a), "earlier": a.earlier and cell.stored_before}) if a.earlier else a for a in cell.answers
    )
    plain = cell.weights.kind == "import" or cell.method == "instruct"
    return Cell(**{**vars(cell), "answers": answers, "edit": 0 if plain else cell.edit})


def databases() -> st.SearchStrategy[Database]:
    """Draw descriptions."""
    asked = st.builds(
        Asked,
        text=st.integers(0, 2),
        split=st.sampled_from(["multi", "multi", "safety"]),
        task=st.sampled_from([None, (), ("coding",), ("writing", "math")]),
        topic=st.sampled_from([None, (), ("stem", "ethics")]),
        tags=st.sampled_from([None, (), ("geo", "own")]),
        source_set=st.sampled_from([None, "lima"]),
        difficulty=st.sampled_from([None, "easy"]),
    )
    queries = st.tuples(*[st.tuples(*[asked] * N_QUERIES)] * len(DATASETS))
    return _neighbours().flatmap(
        lambda cells: st.builds(Database, queries, st.just(cells), st.lists(_wanted(cells), max_size=3).map(tuple))
    )


def _wanted(cells: tuple[Cell, ...]) -> st.SearchStrategy[Wanted]:
    """Draw cells that a study asks for: some of ``cells``, by data set or by any."""
    named = [Wanted(c.weights.label, c.method, c.language, c.weights.dpo, c.dataset) for c in cells]
    named += [Wanted(**{**vars(one), "dataset": None}) for one in named]
    return st.sampled_from([*named, Wanted("EuroLLM 9B", "urial", "en", False, None)])
