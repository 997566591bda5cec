"""The figure of token shift: stacked shares of tokens, and the share of shifted ones by position in the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from icl_local.results.shift import position_groups
from icl_local.store import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHARES = {"unshifted": "unshifted (rank 1)", "marginal": "marginal (rank 2, 3)", "shifted": "shifted"}  # of tokens
_LOOKS = (
    ("o", "urial"), ("s", "zero-shot"), ("D", "instruct"), ("^", "other 1"), ("v", "other 2"), ("P", "other 3"),
    ("X", "other 4"),
)  # fmt: skip
_STYLES = ("-", "--", ":")


def draw(rows: Sequence[Row], by_position: Sequence[Row], colours: Mapping[str, str]) -> Figure:
    """Draw the shares of db/queries/shift_bars.sql as stacked bars, and the shifted share by position beside them."""
    from matplotlib.figure import Figure

    ours = [row for row in rows if not row["published"]]
    names = position_groups(by_position) if ours else []
    figure = Figure(figsize=(9.5 if names else 6.0, 1.0 + 0.3 * len(rows)), layout="constrained")
    if names:
        bars, lines = figure.subplots(1, 2, width_ratios=(3, 2))
        _draw_positions(lines, ours, by_position, names, colours)
    else:
        bars = figure.subplots()
    lefts = [0.0] * len(rows)
    for (share, label), colour in zip(_SHARES.items(), ("line", "other 2", "zero-shot"), strict=True):
        widths = [row[share] for row in rows]
        bars.barh(range(len(rows)), widths, left=lefts, height=0.7, color=colours[colour], label=label)
        ink = colours["ink"] if colour == "line" else "black"
        for at, (left, width) in enumerate(zip(lefts, widths, strict=True)):
            if width >= 4:  # a narrower bar has no room for its share
                bars.text(left + width / 2, at, f"{width:.1f}", ha="center", va="center", fontsize=7, color=ink)
        lefts = [left + width for left, width in zip(lefts, widths, strict=True)]
    bars.set_yticks(range(len(rows)), [row["label"] for row in rows])
    bars.invert_yaxis()
    bars.set_xlim(0, 100)
    bars.grid(visible=False)
    bars.set_xlabel("percent of tokens", fontsize=7.5)
    bars.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=7, frameon=False, borderaxespad=0)
    return figure


def _draw_positions(
    lines: Axes, rows: Sequence[Row], by_position: Sequence[Row], names: Sequence[str], colours: Mapping[str, str]
) -> None:
    """Draw a line for each row over groups of positions."""
    keys = ("cell_id", "under_gguf_sha256", "under_method")
    found = {tuple(one[key] for key in keys): one for one in by_position}
    for at, row in enumerate(rows):
        shown = found.get(tuple(row[key] for key in keys), {})
        heights = np.array([shown.get(name) for name in names], dtype=np.float64)  # NaN leaves a gap
        marker, colour = _LOOKS[at % len(_LOOKS)]
        style = _STYLES[at // len(_LOOKS) % len(_STYLES)]
        lines.plot(
            heights, style, marker=marker, color=colours[colour], markersize=3.5, linewidth=1, label=row["label"]
        )
    lines.set_xticks(range(len(names)), names, rotation=60)
    lines.set_ylim(bottom=0)
    lines.tick_params(axis="y", labelsize=8, labelcolor=colours["soft"])
    lines.grid(axis="y")
    lines.set_xlabel("position of the token in the answer", fontsize=7.5)
    lines.set_title("shifted, percent", loc="left", fontsize=7.5)
    lines.legend(fontsize=6, frameon=False)
