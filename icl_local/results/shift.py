"""Token shift as tables: shares with intervals, by position, differences between prompts, most shifted tokens."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from icl_local.results.paper_tables import open_views
from icl_local.results.tables import Table, table_of, with_interval
from icl_local.store import Row

_OF_CELL = ("model", "method", "dpo", "language", "dataset", "quantization", "under_model", "under_dpo",
            "under_quantization")  # fmt: skip
_SHARES = ("unshifted", "marginal", "shifted")
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
            "shares": views.named("shown_shift", reading),
            "positions": views.rows("token_shift_by_position") if whole else views.named("shown_shift_positions"),
            "pairs": views.named("shown_shift_pairs"),
            "tokens": views.named("shown_shifted_tokens", tokens, not whole),
        }
        published = views.rows("published_token_shift")
    found = {name: [row for row in rows if not lang or row["language"] in lang] for name, rows in found.items()}
    if whole:
        found["published"] = published
        return [table_of(name, tuple(rows[0]), rows) for name, rows in found.items() if rows]
    shares, positions, pairs, most_shifted = found.values()
    if not shares:
        return [Table("Token shift", ("shifted",), [], notes=("No rows yet: icl score.",))]
    for row in shares:
        row["shifted"] = with_interval(row["shifted"], row["shifted_low"], row["shifted_high"], ".1f")
    for row in pairs:
        row["difference"] = with_interval(row["difference"], row["ci_low"], row["ci_high"], "+.1f")
    layout = (
        (f"Token shift in percent of tokens ({reading})", shares,
         ("under_method", "n_answers", "n_tokens", *_SHARES, "decoded_same", "bits_per_byte")),
        ("Shifted tokens in percent, by position in the answer", positions,
         ("under_method", *position_groups(positions))),
        ("Differences of the shifted share (b minus a), over the same queries", pairs,
         ("under_method", "differs_in", "a", "b", "n", "shifted_a", "shifted_b", "difference")),
        ("Most shifted tokens, and what the scoring model would write", most_shifted,
         ("under_method", "token", "n_shifted", "n", "percent", "usual_top_token")),
    )  # fmt: skip
    named = [name for name in _OF_CELL if len({row[name] for row in shares}) > 1]
    ours = [table_of(title, (*named, *columns), rows) for title, rows, columns in layout if rows]
    lin = table_of("Published shares in percent (Lin et al., 2023)", ("model", "base_model", *_SHARES), published)
    return [replace(ours[0], notes=_NOTES), *ours[1:], lin]


def position_groups(rows: Sequence[Row]) -> list[str]:
    """Return the groups of positions that occur in rows of db/queries/shown_shift_positions.sql, columns of them."""
    names = (name for name in (rows[0] if rows else ()) if name[0].isdigit())
    return [name for name in names if any(row[name] is not None for row in rows)]
