"""Token shift as tables: shares with intervals, by position, differences between prompts, most shifted tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from icl_local.results.paper_tables import open_views
from icl_local.results.tables import Table, table_of, with_interval
from icl_local.store import Row

_NAMES = ("model", "method", "dpo", "language", "dataset", "quantization", "under_model", "under_dpo",
          "under_quantization")  # fmt: skip
_KEYS = ("cell_id", "under_gguf_sha256", "under_method")
_ORDER = {"own": 0, "same": 1}  # then methods by name
_NOTES = (
    "unshifted: the scoring model's first choice; marginal: its second or third; shifted: beyond, with a 95 % interval "
    "over answers.",
    "own: the answer's own file and prompt; same: its own prompt, the base file.",
)


def shift_tables(
    database: Path, *, lang: Sequence[str] = (), reading: str = "all", tokens: int = 10, whole: bool = False
) -> list[Table]:
    """Return the tables of what `icl score` stored for answers, of all languages or ``lang``.

    ``reading``: all | own_top | with_end, see view token_shift. ``tokens``: most shifted tokens of each cell and
    prompt. ``whole``: every column of the views. Raises StoreError.
    """
    with open_views(database) as views:
        found = {
            "shares": [row for row in views.rows("token_shift") if row["reading"] == reading],
            "positions": views.rows("token_shift_by_position"),
            "pairs": views.rows("token_shift_pairs"),
            "tokens": views.named("most_shifted", tokens),
        }
        published = views.rows("published_token_shift")
    found = {
        title: sorted((row for row in rows if not lang or row["language"] in lang), key=_place)
        for title, rows in found.items()
    } | {"published": published}
    if whole:
        return [table_of(title, tuple(rows[0]), rows) for title, rows in found.items() if rows]
    if not found["shares"]:
        return [Table("Token shift", ("shifted",), [], notes=("No rows yet: icl score.",))]
    positions, names = _by_position(found["positions"])
    for row in found["shares"]:
        row["shifted"] = with_interval(row["shifted"], row["shifted_low"], row["shifted_high"], ".1f")
    for row in found["pairs"]:
        row["difference"] = with_interval(row["difference"], row["ci_low"], row["ci_high"], "+.1f")
    layout = (
        (f"Token shift in percent of tokens ({reading})", found["shares"],
         ("under_method", "n_answers", "n_tokens", "unshifted", "marginal", "shifted", "decoded_same",
          "bits_per_byte")),
        ("Shifted tokens in percent, by position in the answer", positions, ("under_method", *names)),
        ("Differences of the shifted share (b less a), over the same queries", found["pairs"],
         ("under_method", "differs_in", "a", "b", "n", "shifted_a", "shifted_b", "difference")),
        ("Most shifted tokens, and what the scoring model would write", found["tokens"],
         ("under_method", "token", "n_shifted", "n", "percent", "usual_top_token")),
    )  # fmt: skip
    named = [name for name in _NAMES if len({row[name] for row in found["shares"]}) > 1]
    ours = [table_of(title, (*named, *columns), rows) for title, rows, columns in layout if rows]
    shares = ("model", "base_model", "unshifted", "marginal", "shifted")
    lin = table_of("Published shares in percent (Lin et al., 2023)", shares, published)
    return [replace(ours[0], notes=_NOTES), *ours[1:], lin]


def _place(row: Row) -> tuple[object, ...]:
    method = row["under_method"]
    return row["language"], row["under_dpo"], _ORDER.get(method, 2), method, row.get("first_position"), row.get("b")


def _by_position(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """Return a row for each cell and prompt with the shifted share by position, and the names of these columns."""
    names = list(dict.fromkeys(row["positions"] for row in sorted(rows, key=lambda row: row["first_position"])))
    lines: dict[tuple[object, ...], Row] = {}
    for row in rows:
        line = lines.setdefault(tuple(row[name] for name in _KEYS), dict.fromkeys(names) | row)
        line[row["positions"]] = row["shifted"]
    return list(lines.values()), names
