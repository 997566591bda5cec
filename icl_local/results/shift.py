"""Token shift as tables: shares with intervals, by position, differences between prompts, most shifted tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from icl_local.results.paper_tables import open_views
from icl_local.results.tables import Row, Table, table_of

ANSWERS = ("model", "method", "dpo", "language", "dataset", "quantization")
UNDER = ("under_model", "under_dpo", "under_quantization")
_ORDER = {"own": 0, "same": 1}  # then methods by name
_KEYS = ("cell_id", "under_gguf_sha256", "under_method")


def shift_tables(
    database: Path, *, lang: Sequence[str] = (), reading: str = "all", tokens: int = 10, whole: bool = False
) -> list[Table]:
    """Return the tables of what `icl score` stored for answers, of all languages or ``lang``.

    ``reading``: all | own_top | with_end, see view token_shift. ``tokens``: most shifted tokens of each cell and
    prompt. ``whole``: every column of the views. Raises StoreError.
    """
    with open_views(database) as views:
        shares = [row for row in views.rows("token_shift") if row["reading"] == reading]
        positions, pairs = views.rows("token_shift_by_position"), views.rows("token_shift_pairs")
        shifted, published = views.named("most_shifted", tokens), views.rows("published_token_shift")
    shares, positions, pairs, shifted = (
        sorted((row for row in rows if not lang or row["language"] in lang), key=_place)
        for rows in (shares, positions, pairs, shifted)
    )
    if whole:
        titled = {"shares": shares, "positions": positions, "pairs": pairs, "tokens": shifted, "published": published}
        return [table_of(title, tuple(rows[0]), rows) for title, rows in titled.items() if rows]
    if not shares:
        return [Table("Token shift", ("shifted",), [], notes=("No rows yet: icl score.",))]
    answers, names = _varying(shares, ANSWERS), (*_varying(shares, UNDER), "under_method")
    found = [_shares(shares, answers, names, reading), _by_position(positions, answers, names)]
    if pairs:
        found.append(_pairs(pairs, _varying(pairs, (*ANSWERS, *UNDER))))
    columns = (*answers, *names, "token", "n_shifted", "n", "percent", "usual_top_token")
    found.append(table_of("Most shifted tokens, and what the scoring model would write", columns, shifted))
    columns = ("model", "base_model", "unshifted", "marginal", "shifted")
    found.append(table_of("Published shares in percent (Lin et al., 2023)", columns, published))
    return found


def _place(row: Row) -> tuple[object, ...]:
    method = row["under_method"]
    return row["language"], row["under_dpo"], _ORDER.get(method, 2), method, row.get("first_position"), row.get("b")


def _varying(rows: Sequence[Row], columns: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that have more than one value."""
    return tuple(name for name in columns if len({row[name] for row in rows}) > 1)


def _shares(rows: Sequence[Row], answers: Sequence[str], names: Sequence[str], reading: str) -> Table:
    for row in rows:
        if row["shifted_low"] is not None:
            row["shifted"] = f"{row['shifted']:.1f} [{row['shifted_low']:.1f}, {row['shifted_high']:.1f}]"
    columns = ("n_answers", "n_tokens", "unshifted", "marginal", "shifted", "decoded_same", "bits_per_byte")
    notes = (
        "unshifted: the scoring model's first choice; marginal: its second or third; shifted: beyond, with a 95 % "
        "interval over answers.",
        "own: the answer's own file and prompt; same: its own prompt, the base file.",
    )
    title = f"Token shift in percent of tokens ({reading})"
    return table_of(title, (*answers, *names, *columns), rows, notes=notes)


def _by_position(rows: Sequence[Row], answers: Sequence[str], names: Sequence[str]) -> Table:
    order = dict.fromkeys(row["positions"] for row in sorted(rows, key=lambda row: row["first_position"]))
    lines: dict[tuple[object, ...], Row] = {}
    for row in rows:
        line = lines.setdefault(tuple(row[name] for name in _KEYS), dict.fromkeys(order) | row)
        line[row["positions"]] = row["shifted"]
    columns = (*answers, *names, *order)
    return table_of("Shifted tokens in percent, by position in the answer", columns, list(lines.values()))


def _pairs(rows: Sequence[Row], columns: Sequence[str]) -> Table:
    for row in rows:
        if row["ci_low"] is not None:
            row["difference"] = f"{row['difference']:+.1f} [{row['ci_low']:.1f}, {row['ci_high']:.1f}]"
    named = (*columns, "under_method", "differs_in", "a", "b", "n", "shifted_a", "shifted_b", "difference")
    return table_of("Differences of the shifted share (b less a), over the same queries", named, rows)
