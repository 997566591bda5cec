"""Decoding settings, cells (model x method x language), and the prompts and keys of their responses."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache, partial
from operator import itemgetter
from pathlib import Path

from icl_local import prompting, store
from icl_local.engine import Request, Sampling, default_kv_type
from icl_local.exceptions import ConfigError, InputError, ModelError, refuse
from icl_local.identity import cell_key, key_of
from icl_local.prompting import Method, Pools, Prompt, Query, QuerySet, Recipe
from icl_local.running.server import Server, ServerModel
from icl_local.store import Record
from icl_local.weights import ResolvedModel, checksum, registry
from icl_local.wording import with_dpo

Model = ResolvedModel | ServerModel
CHOICES = "choices"  # Decoding.decode
COLUMNS = ("model", "method", "language", "queries", "done", "missing")  # of a cell before a run
MOST_TOKENS = 10_000_000  # of an answer: more than any context


@dataclass(frozen=True)
class Decoding:
    """Decoding settings that change the text; by default greedy with penalty 1.1 as in Transformers.

    The paper leaves open the penalty of chats and the token limit; both defaults are this project's choice.

    ``max_tokens`` limits a response; ``chat_date`` is the date that chat templates print; ``kv_type`` None: by the
    type of the weights. ``plain_queries``: control tokens in a query are text; by default tokens, as in Transformers.
    Above ``temperature`` 0 each query has ``draws`` responses, sampled as engine/sampling.py says with ``draw_seed``.
    ``decode`` "choices": the response is the most probable choice of its query, and no token is generated.
    """

    max_tokens: int = 1024
    repetition_penalty: float = 1.1
    kv_type: str | None = None
    chat_date: str | None = None
    stop_on_loop: bool = False
    plain_queries: bool = False
    temperature: float = 0.0
    top_p: float = 1.0
    min_p: float = 0.0
    draws: int = 1
    draw_seed: int = 0
    decode: str = "text"

    def __post_init__(self) -> None:
        greedy = self.temperature == 0
        refuse({
            f"--max-tokens must be from 1 to {MOST_TOKENS:,}, not {self.max_tokens}":
                not 1 <= self.max_tokens <= MOST_TOKENS,
            f"--draw-seed {self.draw_seed} is too large; give one of up to 18 digits":
                not -(1 << 63) <= self.draw_seed < 1 << 63,
            f"--repetition-penalty must be above 0, not {self.repetition_penalty:g}": not self.repetition_penalty > 0,
            f"--kv-type must be f16 or f32, not {self.kv_type!r}": self.kv_type not in (None, "f16", "f32"),
            f"--temperature must be in [0, 5], not {self.temperature:g}": not 0 <= self.temperature <= 5,
            f"--top-p must be in (0, 1], not {self.top_p:g}": not 0 < self.top_p <= 1,
            f"--min-p must be in [0, 1), not {self.min_p:g}": not 0 <= self.min_p < 1,
            f"--draws must be at least 1, not {self.draws}": self.draws < 1,
            f"--draws {self.draws}: greedy draws are all equal; give --temperature, such as 0.7":
                greedy and self.draws > 1,
            "--top-p and --min-p are for sampling; give --temperature, such as 0.7":
                greedy and (self.top_p < 1 or self.min_p > 0),
            f"--decode must be text or choices, not {self.decode!r}": self.decode not in ("text", CHOICES),
            "--decode choices generates no text; leave --temperature and --stop-on-loop out":
                self.decode == CHOICES and (not greedy or self.stop_on_loop),
        })  # fmt: skip
        try:
            date.fromisoformat(self.chat_date or prompting.CHAT_DATE)
        except ValueError:
            raise ConfigError(f"--date must be a day as YYYY-MM-DD, not {self.chat_date!r}") from None

    @property
    def draw_numbers(self) -> range:
        """Return the numbers of a query's responses: 0 for the greedy one, from 1 for sampled ones."""
        return range(1, self.draws + 1) if self.temperature > 0 else range(1)

    def sampling(self, query: Query, number: int) -> Sampling | None:
        """Return how the draw of a query is sampled; None for the greedy one."""
        if number == 0:
            return None
        of = (self.draw_seed, query.dataset, query.query_id, number)
        return Sampling(self.temperature, self.top_p, self.min_p, of)

    def row(self, method: Method, model: Model) -> dict[str, object]:
        """Return the row of raw.settings for a method and model. Raises ConfigError for settings no server takes."""
        settings: dict[str, object]
        if isinstance(model, ServerModel):
            refuse({
                "--temperature is for this machine; a server's draws cannot be reproduced": self.temperature > 0,
                "--decode choices is for this machine; a server does not score a given text": self.decode == CHOICES,
                "--stop-on-loop, --kv-type, --date and --plain-queries are for this machine; a server has its own":
                    bool(self.stop_on_loop or self.kv_type or self.chat_date or self.plain_queries),
            })  # fmt: skip
            settings = model.server.settings(self.repetition_penalty)
        else:
            settings = {
                "backend": "llama.cpp",
                "repetition_penalty": self.repetition_penalty,
                "penalty_rule": "transformers",
                "kv_type": self.kv_type or default_kv_type(model.info),
                "chat_date": (self.chat_date or prompting.CHAT_DATE) if method.kind == registry.CHAT else None,
            }
        settings |= {"max_tokens": self.max_tokens, "stop_on_loop": self.stop_on_loop}
        if self.plain_queries:
            settings["plain_queries"] = True
        if self.decode == CHOICES:  # what generates text does not matter
            settings |= {"decoding": CHOICES, "repetition_penalty": None, "penalty_rule": "none", "max_tokens": None}
        if self.temperature > 0:
            settings |= {"temperature": self.temperature, "top_p": self.top_p, "min_p": self.min_p}
        return {"settings_id": key_of(kind="settings", **settings), **settings}


@dataclass(frozen=True)
class Cell:
    """One model, one method in one language, and its queries."""

    model: Model
    recipe: Recipe
    query_set: QuerySet

    @property
    def method(self) -> Method:
        """Return the method of the recipe."""
        return self.recipe.method

    @property
    def language(self) -> str:
        """Return the language of the queries."""
        return self.recipe.language

    @property
    def label(self) -> str:
        """Return model, method and language for people."""
        return f"{with_dpo(self.model.label, self.model.dpo)} · {self.method.name} · {self.language}"


def plan_cells(
    models: Sequence[str],
    methods: Sequence[str],
    query_sets: Sequence[QuerySet],
    *,
    dpo: bool = False,
    server: Server | None = None,
    overlay: Path | None = None,
    pools: Pools | None = None,
    on_download: checksum.OnBytes | None = None,
) -> list[Cell]:
    """Return every combination, sorted by file. Raises UnknownName, InputError, ConfigError, ModelError, HubError.

    ``query_sets`` has one set a language; ``methods`` may stand for several (prompting.expand). What is wrong with
    names, languages or pools is an error before anything is loaded. With ``server`` the models are names of models
    that it serves.
    """
    named: Callable[..., Model] = partial(registry.resolve, on_progress=on_download) if server is None else server.named
    named = cache(named)  # a file has several cells
    cells = [
        Cell(named(name, method_kind=recipe.method.kind, dpo=dpo), recipe, query_set)
        for name, (recipe, query_set) in itertools.product(models, _expanded(methods, query_sets, overlay, pools))
    ]
    return sorted(cells, key=lambda cell: str(cell.model.path))


def _expanded(
    methods: Sequence[str], query_sets: Sequence[QuerySet], overlay: Path | None, pools: Pools | None
) -> list[tuple[Recipe, QuerySet]]:
    """Return each recipe with its queries, in the order of the methods, then of the languages."""
    expanded: list[tuple[int, Recipe, QuerySet]] = []
    for query_set in query_sets:
        found = prompting.expand(methods, query_set.queries[0].language, overlay=overlay, pools=pools)
        expanded += [(number, recipe, query_set) for number, recipe in enumerate(found)]
    return [(recipe, query_set) for _, recipe, query_set in sorted(expanded, key=itemgetter(0))]


def preview_cells(
    path: Path,
    models: Sequence[str],
    methods: Sequence[str],
    query_sets: Sequence[QuerySet],
    *,
    decoding: Decoding,
    dpo: bool = False,
    server: Server | None = None,
    overlay: Path | None = None,
    pools: Pools | None = None,
) -> tuple[list[tuple[object, ...]], list[str]]:
    """Return COLUMNS of every cell, and notes; no model is fetched or loaded, and nothing is written.

    A query counts as often as it has draws. ``done`` and ``missing`` are None where the model's file is to be fetched
    and where the cell cannot run; a note says so. Raises what ``plan_cells`` does, StoreError, and InputError for a
    query that is stored with another text.
    """
    have = store.ids(path, "responses", "response_id")
    for one in query_sets if store.exists(path) else ():
        texts = {query.query_id: query.instruction for query in one.queries}
        store.refuse_other_texts(partial(store.named, path), one.dataset, one.queries[0].language, texts)
    named: Callable[..., Model] = registry.resolve if server is None else server.named
    named = cache(named)  # a file has several cells
    rows: list[tuple[object, ...]] = []
    notes: dict[str, None] = {}
    for name, (recipe, query_set) in itertools.product(models, _expanded(methods, query_sets, overlay, pools)):
        kind = recipe.method.kind
        label, keys = registry.printed_name(name), None
        if server is None and (source := registry.to_fetch(name, registry.variant_of(kind, dpo=dpo))):
            notes[f"{label}: {source} is to be fetched"] = None
        else:
            cell = Cell(named(name, method_kind=kind, dpo=dpo), recipe, query_set)
            label = cell.model.label
            try:
                keys = CellPlan(cell, decoding).keys
            except (ConfigError, InputError, ModelError) as failure:
                notes[f"{cell.label} cannot run: {failure}"] = None
        wanted = len(query_set.queries) * len(decoding.draw_numbers) if keys is None else len(keys)
        counts = (None, None) if keys is None else (len(keys & have), len(keys - have))
        rows.append((with_dpo(label, dpo), recipe.method.name, recipe.language, wanted, *counts))
    return rows, list(notes)


def _choices(query: Query) -> list[str]:
    choices = query.expected.get("choices")
    if not choices:
        raise InputError(
            f"query {query.query_id!r} of {query.dataset} has no `choices`; name their column with --map choices=COLUMN"
        )
    return list(choices)


class CellPlan:
    """A cell with the prompts and keys of its responses."""

    def __init__(self, cell: Cell, decoding: Decoding) -> None:
        self.cell = cell
        self.decoding = decoding
        self.settings = decoding.row(cell.method, cell.model)
        in_key = {name: value for name, value in self.settings.items() if name not in ("settings_id", "chat_date")}
        self.by_key: dict[str, tuple[Query, Prompt]] = {}
        self.draw_number: dict[str, int] = {}
        self.cell_row: dict[str, object] = {}
        for query in cell.query_set.queries:
            if isinstance(cell.model, ServerModel):
                weights = cell.model.weights
                prompt = cell.model.prompt(query, cell.recipe)
            else:
                weights = cell.model.sha256
                prompt = cell.recipe.prompt(query, info=cell.model.info, chat_date=decoding.chat_date)
            if decoding.plain_queries and prompt.query_at is None:
                raise ModelError(f"the chat template of {cell.label} changes the query; leave --plain-queries out")
            for number in decoding.draw_numbers:
                parts = {
                    "weights": weights,
                    "prompt": prompt.sha256,
                    "dataset": query.dataset,
                    "query": query.query_id,
                    "settings": in_key,
                    "stops": list(prompt.stops),
                    "method": cell.method.name if cell.method.in_brackets else None,
                    "drawn": (decoding.draw_seed, number) if number else None,
                    "choices": sorted(_choices(query)) if decoding.decode == CHOICES else None,
                }
                key = key_of(kind="response", **{name: part for name, part in parts.items() if part is not None})
                self.by_key[key] = (query, prompt)
                self.draw_number[key] = number
            self.cell_row = self.cell_row or self._cell_row(weights, prompt)
        self.keys = set(self.by_key)
        self.prompt_characters = max((len(prompt.text) for _, prompt in self.by_key.values()), default=0)

    def _cell_row(self, weights: str, prompt: Prompt) -> dict[str, object]:
        """Return the row of raw.cells."""
        parts = {
            "weights": weights,
            "recipe": self.cell.recipe.key(prompt),
            "dataset": self.cell.query_set.dataset,
            "language": self.cell.language,
            "settings_id": str(self.settings["settings_id"]),
        }
        return {
            "cell_id": cell_key(**parts),
            **parts,
            "method": self.cell.method.name,
            "model_id": self.cell.model.model_id,
            "gguf_sha256": self.cell.model.sha256,
        }

    def requests(self, have: set[str]) -> list[Request]:
        """Return a request for every response that is not in ``have``."""
        return [
            Request(
                id=key,
                prompt=prompt.text,
                max_tokens=self.decoding.max_tokens,
                stops=prompt.stops,
                repetition_penalty=self.decoding.repetition_penalty,
                plain=prompt.query_at if self.decoding.plain_queries else None,
                sampling=self.decoding.sampling(query, self.draw_number[key]),
            )
            for key, (query, prompt) in self.by_key.items()
            if key not in have
        ]

    def drawn(self, key: str) -> dict[str, object]:
        """Return the columns of raw.responses that name the draw of a response; none for a greedy one."""
        number = self.draw_number[key]
        return {"draw_seed": self.decoding.draw_seed, "draw": number} if number else {}

    def rows(self) -> list[Record]:
        """Return the rows that the cell's responses refer to."""
        model = self.cell.model
        return [
            ("models", model.model_row()),
            *([("gguf_files", model.file_row())] if isinstance(model, ResolvedModel) else []),
            ("datasets", self.cell.query_set.row()),
            ("settings", self.settings),
            ("cells", self.cell_row),
            ("methods", self.cell.recipe.row(str(self.cell_row["recipe"]))),
            *(("queries", query.row()) for query, _ in self.by_key.values()),
            *({prompt.prompt_id: ("prompts", prompt.row()) for _, prompt in self.by_key.values()}.values()),
        ]
