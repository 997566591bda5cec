"""The paper's figures from the views: 2 (languages), 3 (DPO), 4 (critical errors), and score against size.

Uses matplotlib without its global state, so it needs no display. Colour shows the method (Okabe and Ito's palette for
colour-blind readers) and is never the only difference: markers, lines and labels show it too.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

from icl_local import prompting
from icl_local.exceptions import ConfigError, MissingExtra, UnknownName
from icl_local.results.paper_tables import SCORES, Row, Views, open_views
from icl_local.results.tables import inert

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLES = {
    "2": "Figure 2. Scores by language",
    "3": "Figure 3. Scores without and with DPO",
    "4": "Figure 4. Critical errors",
    "size": "Score against size",
}
VIEWS = {"2": "figure_2", "3": "figure_3", "4": "figure_4", "size": "size_scores"}

_METHOD_COLOURS = {"zero-shot": "#E69F00", "urial": "#0072B2", "instruct": "#009E73"}
_MORE_COLOURS = ("#CC79A7", "#56B4E9", "#D55E00", "#000000")
_ERROR_COLOURS = {"infinite_loop": "#D55E00", "unintended_code": "#56B4E9"}
_ERROR_NAMES = {"infinite_loop": "infinite loop", "unintended_code": "unintended code"}
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_AXIS_NAMES = {metric: name for name, metric in SCORES.items() if metric != "avg"} | {"language": "language"}
_METRIC_TITLES = {"avg": "five-aspect mean", "safety": "safety"}
_Panels = dict[str, dict[Any, list[Row]]]  # title -> series -> rows

_STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "icl-local",
    "text.parse_math": False,  # a $ in a model's name is not math
}


@dataclass(frozen=True)
class Drawing:
    """One drawn figure, shown by a notebook; ``figure`` is matplotlib's."""

    name: str
    title: str
    figure: Figure = field(repr=False)

    def save(self, folder: str | Path, *, dpi: int = 200) -> list[Path]:
        """Write PNG and SVG; return their paths. Raises ConfigError if ``folder`` cannot be written."""
        return _write(self.figure, self.name, Path(folder), dpi=dpi)

    def _repr_svg_(self) -> str:
        return inline_svg(self.figure, label=self.title)


def draw_figure(database: Path, name: str, *, published: bool = False, judge: str | None = None) -> Drawing:
    """Draw the named figure, a key of TITLES.

    Raises MissingExtra, UnknownName, StoreError, and ConfigError if the database has no rows for it.
    """
    with open_views(database, origin="published" if published else "ours", judge=judge) as views:
        figure = draw(views, name)
    if figure is None:
        raise ConfigError(f"{TITLES[name]}: no rows for it in {database} yet")
    return Drawing(name, TITLES[name], figure)


def save(views: Views, folder: Path, *, names: Iterable[str] = tuple(TITLES), dpi: int = 200) -> list[Path]:
    """Write the named figures (keys of TITLES) that have data as PNG and SVG; return the paths.

    Raises MissingExtra if matplotlib is not installed, ConfigError if ``folder`` cannot be written.
    """
    drawn = {name: draw(views, name) for name in names}
    return [path for name, figure in drawn.items() if figure for path in _write(figure, name, folder, dpi=dpi)]


def _write(figure: Figure, name: str, folder: Path, *, dpi: int) -> list[Path]:
    paths = [folder / f"figure_{name}.{suffix}" for suffix in ("png", "svg")]
    for path in paths:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _styled():
                figure.savefig(path, dpi=dpi, metadata={"Date": None} if path.suffix == ".svg" else None)
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror}; choose another folder with -o") from error
    return paths


def draw(views: Views, name: str) -> Figure | None:
    """Return the named figure, None if its view has no rows. Raises MissingExtra, UnknownName."""
    if name not in _DRAWERS:
        raise UnknownName.among("figure", name, list(_DRAWERS))
    rows = [
        {key: _label(value) if isinstance(value, str) else value for key, value in row.items()}
        for row in views.rows(VIEWS[name])
    ]
    if not rows:
        return None
    with _styled():
        return _DRAWERS[name](rows)


def inline_svg(figure: Figure, *, label: str) -> str:
    """Return the figure as an <svg> element without style attributes and blocks, which the page's policy forbids."""
    out = io.BytesIO()
    with _styled():
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue().decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<style\b.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r' style="([^"]*)"', lambda found: _attributes(found[1]), text)
    return text.replace("<svg ", f'<svg role="img" aria-label={quoteattr(label)} ', 1)


def _attributes(style: str) -> str:
    """Return CSS declarations as presentation attributes; splits the font shorthand."""
    parts = []
    for declaration in style.split(";"):
        name, _, value = declaration.partition(":")
        name, value = name.strip(), value.strip().replace("&quot;", "'")
        if name == "font":
            size = re.search(r"([\d.]+)px", value)
            parts += [f'font-size="{size[1]}"'] if size else []
            parts += ['font-family="sans-serif"']
        elif name == "font-family":
            parts.append('font-family="sans-serif"')
        elif name:
            parts.append(f'{name}="{value}"')
    return " " + " ".join(parts)


def _label(text: str) -> str:
    """Return a name from the database without control characters, shortened to 32 characters."""
    text = inert(text)
    return text if len(text) <= 32 else f"{text[:20]}…{text[-11:]}"


def _styled() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise MissingExtra("report", "matplotlib") from error
    return matplotlib.rc_context(_STYLE)


def _new(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _colour(method: str, methods: Sequence[str]) -> str:
    others = [name for name in methods if name not in _METHOD_COLOURS]
    if method in _METHOD_COLOURS:
        return _METHOD_COLOURS[method]
    return _MORE_COLOURS[others.index(method) % len(_MORE_COLOURS)]


def _unique(rows: Sequence[Row], name: str) -> list[Any]:
    return list(dict.fromkeys(row[name] for row in rows))


def _language(code: str) -> str:
    """Return the name of a language that has a file, else its code."""
    known = prompting.languages()
    return known[code].name if code in known else str(code)


def _spread(rows: Sequence[Row]) -> list[list[float]]:
    """Return the lengths of the error bars below and above; 0 for a row without an interval."""
    known = [row["ci_low"] is not None for row in rows]
    return [
        [row["value"] - row["ci_low"] if has else 0.0 for row, has in zip(rows, known, strict=True)],
        [row["ci_high"] - row["value"] if has else 0.0 for row, has in zip(rows, known, strict=True)],
    ]


def _profile(axes: Axes, series: Mapping[Any, Sequence[Row]], looks: Mapping[Any, Mapping[str, Any]]) -> None:
    """Draw the scores of several series over the metrics, side by side, with their intervals."""
    present = {row["metric"] for rows in series.values() for row in rows}
    metrics = [metric for metric in _AXIS_NAMES if metric in present]
    for index, (key, rows) in enumerate(series.items()):
        shift = 0.5 * ((index + 0.5) / len(series) - 0.5)
        by_metric = {row["metric"]: row for row in rows}
        at = [x for x, metric in enumerate(metrics) if metric in by_metric]
        found = [by_metric[metrics[x]] for x in at]
        values = [row["value"] for row in found]
        positions = [x + shift for x in at]
        axes.errorbar(positions, values, yerr=_spread(found), linewidth=0.9, elinewidth=0.9, **looks[key])
    axes.set_xticks(range(len(metrics)), [_AXIS_NAMES[metric] for metric in metrics], rotation=35, ha="right")
    axes.set_ylim(0.9, 5.1)
    axes.set_yticks([1, 2, 3, 4, 5])


def _languages(rows: Sequence[Row]) -> Figure:
    models, methods = _unique(rows, "model"), _unique(rows, "method")
    looks = {
        (model, method): {
            "color": _colour(method, methods),
            "marker": _MARKERS[models.index(model) % len(_MARKERS)],
            "linestyle": ("-", "--", ":", "-.")[models.index(model) % 4],
            "label": f"{model} {method}",
            "markersize": 4.5,
        }
        for model, method in itertools.product(models, methods)
    }
    panels: _Panels = {}
    for row in rows:
        series = panels.setdefault(_language(row["language"]), {})
        series.setdefault((row["model"], row["method"]), []).append(row)
    return _profiles(panels, looks, width=3.1)


def _dpo(rows: Sequence[Row]) -> Figure:
    methods = _unique(rows, "method")
    looks = {
        (method, dpo): {
            "color": _colour(method, methods),
            "marker": _MARKERS[methods.index(method) % len(_MARKERS)],
            "markerfacecolor": _colour(method, methods) if dpo else "white",
            "linestyle": "-" if dpo else "--",
            "label": f"{method} with DPO" if dpo else method,
            "markersize": 5,
        }
        for method, dpo in itertools.product(methods, (False, True))
    }
    panels: _Panels = {}
    for row in rows:
        series = panels.setdefault(f"{row['model']}, {_language(row['language'])}", {})
        series.setdefault((row["method"], row["dpo"]), []).append(row)
    return _profiles(panels, looks, width=3.6)


def _profiles(panels: _Panels, looks: Mapping[Any, Mapping[str, Any]], *, width: float) -> Figure:
    """Draw one panel of profiles for each title."""
    figure = _new(2.2 + width * len(panels), 3.6)
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, series) in zip(grid, panels.items(), strict=True):
        _profile(axes, series, looks)
        axes.set_title(title, loc="left")
    grid[0].set_ylabel("score, 1 to 5")
    _legend(figure, grid)
    return figure


def _legend(figure: Figure, panels: Iterable[Axes]) -> None:
    found: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    figure.legend(found.values(), found.keys(), loc="outside right center")


def _errors(rows: Sequence[Row]) -> Figure:
    cells: dict[tuple[Any, ...], dict[str, float]] = {}
    for row in rows:
        key = (row["language"], row["model"], row["method"], row["dpo"])
        cells.setdefault(key, {})[row["error"]] = row["percent"] or 0.0
    groups = list(dict.fromkeys((language, model) for language, model, _, _ in cells))
    figure = _new(7.4, 0.9 + 0.21 * len(cells) + 0.16 * len(groups))
    axes = figure.subplots()
    height = 0.0
    ticks, labels = [], []
    for language, model in groups:
        top = height
        for key, found in cells.items():
            if key[:2] != (language, model):
                continue
            left = 0.0
            for error, colour in _ERROR_COLOURS.items():
                percent = found.get(error, 0.0)
                axes.barh(height, percent, left=left, height=0.78, color=colour, edgecolor="white", linewidth=0.4)
                left += percent
            figures = " + ".join(f"{found.get(error, 0.0):.1f}" for error in _ERROR_COLOURS)
            axes.annotate(figures, (left, height), xytext=(3, 0), textcoords="offset points", va="center", fontsize=7)
            ticks.append(height)
            labels.append(f"{key[2]} with DPO" if key[3] else key[2])
            height += 1
        axes.annotate(
            f"{model}, {_language(language)}",
            (1, (top + height - 1) / 2),
            xycoords=("axes fraction", "data"),
            va="center",
            ha="right",
            color="#444444",
        )
        axes.axhline(height - 0.1, color="#bbbbbb", linewidth=0.5)
        height += 0.8
    axes.set_yticks(ticks, labels)
    axes.set_ylim(height - 0.8, -0.8)
    axes.grid(axis="x")
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("percent of the responses")
    axes.set_xlim(0, 1.75 * max(2.0, *(sum(found.values()) for found in cells.values())))
    for error, colour in _ERROR_COLOURS.items():
        axes.bar(0, 0, color=colour, label=_ERROR_NAMES[error])
    figure.legend(loc="outside upper left", ncols=2)
    return figure


def _size(rows: Sequence[Row]) -> Figure:
    rows = [row for row in rows if row["parameters"]]
    languages, methods = _unique(rows, "language"), _unique(rows, "method")
    metrics = [metric for metric in ("avg", "safety") if metric in _unique(rows, "metric")]
    figure = _new(2.0 + 2.8 * len(languages), 0.6 + 2.6 * len(metrics))
    grid = figure.subplots(len(metrics), len(languages), sharex=True, sharey=True, squeeze=False)
    series = list(itertools.product(methods, (False, True)))
    for (y, metric), (x, language) in itertools.product(enumerate(metrics), enumerate(languages)):
        axes = grid[y][x]
        panel = [row for row in rows if (row["metric"], row["language"]) == (metric, language)]
        for index, (method, dpo) in enumerate(series):
            found = [row for row in panel if (row["method"], row["dpo"]) == (method, dpo)]
            if not found:
                continue
            colour = _colour(method, methods)
            aside = 1.02 ** (index - len(series) / 2)  # intervals of one model stand beside each other
            axes.errorbar(
                [aside * row["parameters"] / 1e9 for row in found],
                [row["value"] for row in found],
                yerr=_spread(found),
                color=colour,
                marker=_MARKERS[methods.index(method) % len(_MARKERS)],
                markerfacecolor=colour if dpo else "white",
                linestyle="none",
                markersize=4.5,
                elinewidth=0.9,
                label=f"{method} with DPO" if dpo else method,
            )
        for model in _unique(panel, "model"):
            size = next(row["parameters"] for row in panel if row["model"] == model) / 1e9
            axes.annotate(model, (size, 0.9), rotation=90, ha="center", va="top", fontsize=6.5, color="#777777")
        axes.set_xscale("log")
        axes.set_title(f"{_language(language)}, {_METRIC_TITLES[metric]}", loc="left")
    sizes = [row["parameters"] / 1e9 for row in rows]
    ticks = [digit * 10.0**power for power in range(-2, 4) for digit in (1, 2, 5)]
    for axes in grid[-1]:
        axes.set_xlim(min(sizes) / 1.5, max(sizes) * 1.5)
        axes.set_xticks([tick for tick in ticks if min(sizes) / 1.5 <= tick <= max(sizes) * 1.5])
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        axes.set_xlabel("parameters, billions")
    for line in grid:
        line[0].set_ylim(-0.6, 5.1)  # room for the names below the scale
        line[0].set_yticks([1, 2, 3, 4, 5])
        line[0].set_ylabel("score, 1 to 5")
    _legend(figure, itertools.chain.from_iterable(grid))
    return figure


_DRAWERS: Mapping[str, Callable[[Sequence[Row]], Figure]] = {"2": _languages, "3": _dpo, "4": _errors, "size": _size}
