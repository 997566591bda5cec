"""Token shift as tables and as a figure: shares with intervals, by position, between prompts, most shifted tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from icl_local.results.paper_tables import open_views
from icl_local.results.tables import Table, table_of, with_interval
from icl_local.store import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_OF_CELL = ("model", "method", "dpo", "language", "dataset", "quantization", "under_model", "under_dpo",
            "under_quantization")  # fmt: skip
_SHARES = {"unshifted": "unshifted (rank 1)", "marginal": "marginal (rank 2, 3)", "shifted": "shifted"}  # of tokens
_NOTES = (
    "unshifted: the scoring model's first choice; marginal: its second or third; shifted: beyond, with a 95 % interval "
    "over answers.",
    "own: the answer's own file and prompt; same: its own prompt, the base file.",
)
# of lines: their markers by colour
_MARKERS = {
    "urial": "o", "zero-shot": "s", "instruct": "D", "other 1": "^", "other 2": "v", "other 3": "P", "other 4": "X",
}  # fmt: skip


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
        ("Shifted tokens in percent, by position in the answer", positions, ("under_method", *_positions(positions))),
        ("Differences of the shifted share (b minus a), over the same queries", pairs,
         ("under_method", "differs_in", "a", "b", "n", "shifted_a", "shifted_b", "difference")),
        ("Most shifted tokens, and what the scoring model would write", most_shifted,
         ("under_method", "token", "n_shifted", "n", "percent", "usual_top_token")),
    )  # fmt: skip
    named = [name for name in _OF_CELL if len({row[name] for row in shares}) > 1]  # in every table, to tell cells apart
    ours = [table_of(title, (*named, *columns), rows) for title, rows, columns in layout if rows]
    lin = table_of("Published shares in percent (Lin et al., 2023)", ("model", "base_model", *_SHARES), published)
    return [replace(ours[0], notes=_NOTES), *ours[1:], lin]


def draw(rows: Sequence[Row], by_position: Sequence[Row], colours: Mapping[str, str]) -> Figure:
    """Draw the shares of db/queries/shift_bars.sql as stacked bars, and the shifted share by position beside them."""
    from matplotlib.figure import Figure

    ours = [row for row in rows if not row["published"]]
    ratios = (3, 2) if ours and _positions(by_position) else (3,)
    figure = Figure(figsize=(9.5 if len(ratios) > 1 else 6.0, 1.0 + 0.3 * len(rows)), layout="constrained")
    bars, *beside = figure.subplots(1, len(ratios), width_ratios=ratios, squeeze=False)[0]
    for axes in beside:
        _draw_positions(axes, ours, by_position, colours)
    lefts = np.zeros(len(rows))
    for (share, label), colour in zip(_SHARES.items(), ("line", "other 2", "zero-shot"), strict=True):
        widths = np.array([row[share] for row in rows])
        drawn = bars.barh(range(len(rows)), widths, left=lefts, height=0.7, color=colours[colour], label=label)
        texts = [f"{width:.1f}" if width >= 4 else "" for width in widths]  # a narrower bar has no room for its share
        ink = colours["ink"] if colour == "line" else "black"
        bars.bar_label(drawn, texts, label_type="center", fontsize=7, color=ink)
        lefts += widths
    bars.set_yticks(range(len(rows)), [row["label"] for row in rows])
    bars.invert_yaxis()
    bars.set_xlim(0, 100)
    bars.grid(visible=False)
    bars.set_xlabel("percent of tokens", fontsize=7.5)
    bars.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=7, frameon=False, borderaxespad=0)
    return figure


def _draw_positions(axes: Axes, rows: Sequence[Row], by_position: Sequence[Row], colours: Mapping[str, str]) -> None:
    """Draw a line for each row over groups of positions."""
    from matplotlib.rcsetup import cycler

    keys, names = ("cell_id", "under_gguf_sha256", "under_method"), _positions(by_position)
    found = {tuple(one[key] for key in keys): one for one in by_position}
    looks = cycler(color=[colours[name] for name in _MARKERS], marker=list(_MARKERS.values()))
    axes.set_prop_cycle(cycler(linestyle=["-", "--", ":"]) * looks)
    for row in rows:
        shown = found.get(tuple(row[key] for key in keys), {})
        heights = np.array([shown.get(name) for name in names], dtype=np.float64)  # NaN leaves a gap
        axes.plot(heights, markersize=3.5, linewidth=1, label=row["label"])
    axes.set_xticks(range(len(names)), names, rotation=60)
    axes.set_ylim(bottom=0)
    axes.tick_params(axis="y", labelsize=8, labelcolor=colours["soft"])
    axes.grid(axis="y")
    axes.set_xlabel("position of the token in the answer", fontsize=7.5)
    axes.set_title("shifted, percent", loc="left", fontsize=7.5)
    axes.legend(fontsize=6, frameon=False)


def _positions(rows: Sequence[Row]) -> list[str]:
    """Return the groups of positions that occur in rows of db/queries/shown_shift_positions.sql, columns of them."""
    names = (name for name in (rows[0] if rows else ()) if name[0].isdigit())
    return [name for name in names if any(row[name] is not None for row in rows)]
