"""The paper's figures from the views: 2 (languages), 3 (DPO), 4 (critical errors); then scores by size, and decoding.

Each is one kind of picture: dots with their 95 % intervals on a scale that all panels share, a band for each aspect or
model, and the number of responses beside it. Uses matplotlib without its global state, so it needs no display. Colour
shows the method (Okabe and Ito's palette for colour-blind readers) and is never the only difference: markers and labels
show it too. One file, because all of them share these dots, bands and scales.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

from icl_local import prompting
from icl_local.exceptions import ConfigError, UnknownName, needs_extra
from icl_local.files import result_at
from icl_local.results import shift
from icl_local.results.paper_tables import SCORES, Views, open_views
from icl_local.results.tables import inert
from icl_local.store import Row
from icl_local.vocabulary import FIGURES
from icl_local.wording import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

VIEWS = {"size": "size_scores", "decoding": "decoding_errors"}  # the others: figure_<name>

# what is drawn -> its colours on light and dark ground; Okabe and Ito's, the darkest replaced on dark ground
_COLOURS = {
    "ink": ("#1b1f24", "#e6edf3"),
    "soft": ("#57606a", "#9da7b1"),
    "line": ("#d8dee4", "#30363d"),
    "paper": ("#ffffff", "#0d1117"),
    "zero-shot": ("#e69f00", "#f0b429"),
    "urial": ("#0072b2", "#58a6ff"),
    "instruct": ("#009e73", "#2dba8c"),
    "other 1": ("#cc79a7", "#e093bd"),
    "other 2": ("#56b4e9", "#8fd0f5"),
    "other 3": ("#d55e00", "#ff7b3d"),
    "other 4": ("#8c6d1f", "#c9a94a"),
}
THEMES = {
    "light": {name: light for name, (light, _) in _COLOURS.items()},
    "dark": {name: dark for name, (_, dark) in _COLOURS.items()},
}
_MARKERS = {"zero-shot": "o", "urial": "s", "instruct": "D"}
_OTHER_MARKERS = ("^", "v", "P", "X")
_ERROR_NAMES = {
    "infinite_loop": "infinite loops",
    "unintended_code": "unintended code",
    "other_language": "another language",
}
_ASPECTS = {metric: name for name, metric in SCORES.items() if metric != "avg"} | {"language": "language"}
_MEANS = {"avg": "mean of five aspects", "safety": "safety"}
_SCORES = (1.0, 5.0)
_Places = Mapping[str, Mapping[str, float]]  # of one line of panels: band -> series -> height
_MARKS_INCHES = 0.13  # height of one dot's line
_BESIDE_POINTS = 7  # from the ends of a scale to the texts beside it, so that a dot at its end has room


@dataclass(frozen=True)
class _Dot:
    """One value: the panel (line, column) and the band in it that hold it, and the series it belongs to."""

    line: str
    column: str
    band: str
    method: str
    dpo: bool
    value: float
    low: float | None
    high: float | None
    n: int | None

    @property
    def series(self) -> str:
        return f"{self.method} with DPO" if self.dpo else self.method


def _styled(theme: str = "light") -> Any:
    with needs_extra("report"):
        import matplotlib
    colours = THEMES[theme]
    style = {
        "font.size": 9,
        "axes.titlesize": 9,
        "axes.titleweight": "bold",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.grid": True,
        "axes.grid.axis": "x",
        "axes.axisbelow": True,
        "axes.facecolor": colours["paper"],
        "figure.facecolor": colours["paper"],
        "axes.edgecolor": colours["soft"],
        "axes.titlecolor": colours["ink"],
        "text.color": colours["ink"],
        "axes.labelcolor": colours["soft"],
        "xtick.labelsize": 8,
        "xtick.major.size": 0,
        "xtick.color": colours["soft"],
        "ytick.major.size": 0,
        "ytick.major.pad": _BESIDE_POINTS,
        "ytick.color": colours["ink"],
        "grid.color": colours["line"],
        "grid.linewidth": 0.6,
        "svg.fonttype": "none",
        "svg.hashsalt": "icl-local",
        "text.parse_math": False,  # a $ in a model's name is not math
    }
    return matplotlib.rc_context(style)


@dataclass(frozen=True)
class Drawing:
    """One drawn figure, shown by a notebook; ``figure`` is matplotlib's."""

    name: str
    title: str
    figure: Figure = field(repr=False)

    def save(self, folder: str | Path, *, dpi: int = 200) -> list[Path]:
        """Write PNG and SVG; return their paths. Raises ConfigError if ``folder`` cannot be written, DiskFull."""
        paths = [Path(folder) / f"figure_{self.name}.{suffix}" for suffix in ("png", "svg")]
        for path in paths:
            with result_at(path), _styled():
                path.parent.mkdir(parents=True, exist_ok=True)
                self.figure.savefig(path, dpi=dpi, metadata={"Date": None} if path.suffix == ".svg" else None)
        return paths

    def _repr_svg_(self) -> str:
        return inline_svg(self.figure, label=self.title)


def draw_figure(database: Path, name: str, *, theme: str = "light", **chosen: Any) -> Drawing:
    """Draw the named figure, a key of FIGURES, in a theme, a key of THEMES; ``chosen``: as in open_views.

    Raises MissingExtra, UnknownName, StoreError, and ConfigError if the database has no rows for it.
    """
    with open_views(database, **chosen) as views:
        figure = draw(views, name, theme=theme)
    if figure is None:
        raise ConfigError(f"{FIGURES[name]}: no rows for it in {database} yet")
    return Drawing(name, FIGURES[name], figure)


def draw(views: Views, name: str, *, theme: str = "light") -> Figure | None:
    """Return the named figure, None if its view has no rows. Raises MissingExtra, UnknownName."""
    if name not in FIGURES:
        raise UnknownName.among("figure", name, list(FIGURES))
    if theme not in THEMES:
        raise UnknownName.among("theme", theme, list(THEMES))
    found = views.named("shift_bars") if name == "shift" else views.rows(VIEWS.get(name, f"figure_{name}"))
    rows = [{key: _label(value) if isinstance(value, str) else value for key, value in row.items()} for row in found]
    if not rows:
        return None
    if name == "shift":
        with _styled(theme):
            bars = [{**row, "label": _label(row["label"])} for row in found]
            return shift.draw(bars, views.named("shown_shift_positions"), THEMES[theme])
    dots = list(_DOTS[name](rows))
    with _styled(theme):
        return _draw(dots, theme=theme, scale=None if name in ("4", "decoding") else _SCORES)


def inline_svg(figure: Figure, *, label: str) -> str:
    """Return a light figure as an <svg> element whose colours the page around it can set, see ``dark_colours``.

    It has no style attributes and blocks, which the report's policy forbids.
    """
    out = io.BytesIO()
    with _styled():
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue().decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<style\b.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r' style="([^"]*)"', lambda found: _attributes(found[1]), text)
    text = re.sub("#[0-9a-f]{6}", lambda found: f"var(--c{found[0][1:]}, {found[0]})", text)
    return text.replace("<svg ", f'<svg role="img" aria-label={quoteattr(label)} ', 1)


def dark_colours() -> str:
    """Return the CSS declarations that turn the figures of ``inline_svg`` dark."""
    return " ".join(f"--c{colour[1:]}: {THEMES['dark'][name]};" for name, colour in THEMES["light"].items())


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


# The rows of a view as dots


@functools.cache
def _language(code: str) -> str:
    """Return the name of a language that has a file, else its code."""
    known = prompting.languages()
    return known[code].name if code in known else code


def _dot(row: Row, line: str, column: str, band: str, *, value: str = "value") -> _Dot:
    """Return the dot of a row; ``value`` names the column with its value."""
    dpo, interval = bool(row.get("dpo")), (row.get("ci_low"), row.get("ci_high"))
    return _Dot(line, column, band, row["method"], dpo, row[value] or 0.0, *interval, row.get("n"))


def _by_aspect(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: list(_ASPECTS).index(row["metric"]))


def _sizes(rows: Sequence[Row]) -> Iterable[_Dot]:
    languages = _unique(row["language"] for row in rows)
    known = [row for row in rows if row["parameters"]]
    for row in sorted(known, key=lambda row: (languages.index(row["language"]), row["parameters"])):
        size = f"{row['model']} ({row['parameters'] / 1e9:.2g} B)"
        yield _dot(row, _language(row["language"]), _MEANS[row["metric"]], size)


def _decoding(rows: Sequence[Row]) -> Iterable[_Dot]:
    found: dict[tuple[str, ...], _Dot] = {}
    for row in rows:
        band = f"temperature {row['temperature']:g}" if row["temperature"] else "greedy"
        line = f"{row['model']}, {_language(row['language'])}"
        dot = _dot(row, line, _ERROR_NAMES[row["error"]], band, value="percent")
        found.setdefault((dot.line, dot.column, dot.band, dot.series), dot)  # of several types the first
    return found.values()


_DOTS: Mapping[str, Callable[[Sequence[Row]], Iterable[_Dot]]] = {
    "2": lambda rows: (
        _dot(row, row["model"], _language(row["language"]), _ASPECTS[row["metric"]]) for row in _by_aspect(rows)
    ),
    "3": lambda rows: (
        _dot(row, _language(row["language"]), row["model"], _ASPECTS[row["metric"]]) for row in _by_aspect(rows)
    ),
    "4": lambda rows: (
        _dot(row, _language(row["language"]), _ERROR_NAMES[row["error"]], row["model"], value="percent") for row in rows
    ),
    "size": _sizes,
    "decoding": _decoding,
}


# Drawing


def _draw(dots: Sequence[_Dot], *, theme: str, scale: tuple[float, float] | None) -> Figure:
    """Draw a grid of panels; ``scale`` None is percent, from 0 to the largest value or interval."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    inside = [dot for dot in dots if scale is None or scale[0] <= dot.value <= scale[1]]
    lines, columns = _unique(dot.line for dot in dots), _unique(dot.column for dot in dots)
    colours, markers = _looks(dots, theme)
    places = [_places([dot for dot in inside if dot.line == line], list(colours)) for line in lines]
    heights = [max((place for band in found.values() for place in band.values()), default=0) + 2 for found in places]
    limits = scale or (0.0, max(1.0, *(dot.value if dot.high is None else dot.high for dot in inside)))
    titles = {(line, column): f"{line}, {column}" if len(lines) > 1 else column for line in lines for column in columns}
    width = max(2.6, *(0.09 * len(title) for title in titles.values())) * len(columns)
    figure = Figure(
        figsize=(
            0.4 + 0.075 * max(len(dot.band) for dot in dots) + width,
            0.5 + sum(0.35 + _MARKS_INCHES * height for height in heights),
        ),
        layout="constrained",
    )
    grid = figure.subplots(len(lines), len(columns), sharex=True, squeeze=False, height_ratios=heights)
    for panels, line, found, height in zip(grid, lines, places, heights, strict=True):
        unnamed = dict.fromkeys(colours)
        for axes, column in zip(panels, columns, strict=True):
            axes.set_title(titles[line, column], loc="left")
            axes.set_xlim(*limits)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=scale is not None))
            axes.set_ylim(height - 1, -1)
            axes.tick_params(labelbottom=True)
            _bands(axes, found, first=column == columns[0])
            shown = [dot for dot in inside if (dot.line, dot.column) == (line, column)]
            for dot in shown:
                filled = dot.dpo or not any(other.dpo for other in dots)
                place = found[dot.band][dot.series]
                _mark(axes, dot, place, limits, colours[dot.series], markers[dot.series], filled=filled)
                if dot.series in unnamed:
                    del unnamed[dot.series]
                    _name(axes, dot, place, limits)
            _counts(axes, shown, found, THEMES[theme]["soft"])
    figure.supxlabel("\n".join(_notes(dots, inside, scale)), fontsize=7.5, color=THEMES[theme]["soft"])
    return figure


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _looks(dots: Sequence[_Dot], theme: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the colour and the marker of each series, in the order of the view's methods."""
    methods = _unique(dot.method for dot in dots)
    others = [method for method in methods if method not in _MARKERS]
    spare = [colour for name, colour in THEMES[theme].items() if name.startswith("other ")]
    colours, markers = {}, {}
    for dot in sorted(dots, key=lambda dot: (methods.index(dot.method), dot.dpo)):
        place = others.index(dot.method) if dot.method in others else 0
        colours[dot.series] = THEMES[theme].get(dot.method, spare[place % len(spare)])
        markers[dot.series] = _MARKERS.get(dot.method, _OTHER_MARKERS[place % len(_OTHER_MARKERS)])
    return colours, markers


def _places(dots: Sequence[_Dot], order: Sequence[str]) -> _Places:
    """Return the height of each band's series, in lines from the top, with space between bands."""
    places = {}
    at = 0.0
    for band in _unique(dot.band for dot in dots):
        present = {dot.series for dot in dots if dot.band == band}
        shown = [series for series in order if series in present]
        places[band] = {series: at + number for number, series in enumerate(shown)}
        at = max(places[band].values()) + 1 + 0.9
    return places


def _bands(axes: Axes, places: _Places, *, first: bool) -> None:
    middles = [fmean(band.values()) for band in places.values()]
    axes.set_yticks(middles, list(places) if first else [""] * len(places))
    for band in list(places.values())[:-1]:
        axes.axhline(max(band.values()) + 0.95, color=axes.xaxis.get_gridlines()[0].get_color(), linewidth=0.6)


def _mark(
    axes: Axes, dot: _Dot, place: float, limits: tuple[float, float], colour: str, marker: str, *, filled: bool
) -> None:
    if dot.low is not None and dot.high is not None:
        axes.hlines(place, dot.low, dot.high, colors=colour, linewidth=1.3)
    elif dot.n is not None:
        axes.hlines(place, *limits, colors=colour, linewidth=1.1, linestyles="dotted")
    fill = colour if filled else axes.get_facecolor()
    axes.plot(
        [dot.value], [place], marker=marker, color=colour, markerfacecolor=fill, markersize=4.6, clip_on=False, zorder=3
    )


def _name(axes: Axes, dot: _Dot, place: float, limits: tuple[float, float]) -> None:
    """Write the series beside its first dot, on the side with more room; above its interval where both lack room."""
    low, high = (dot.value if end is None else end for end in (dot.low, dot.high))
    right = limits[1] - high > low - limits[0]
    inside = max(limits[1] - high, low - limits[0]) >= 0.25 * (limits[1] - limits[0])
    axes.annotate(
        dot.series,
        ((high if right else low) if inside else limits[1], place),
        xytext=((5 if right else -5), 0) if inside else (-2, 2),
        textcoords="offset points",
        ha="left" if inside and right else "right",
        va="center" if inside else "bottom",
        fontsize=7,
        bbox={"facecolor": axes.get_facecolor(), "edgecolor": "none", "pad": 0.4},
    )


def _counts(axes: Axes, dots: Sequence[_Dot], places: _Places, colour: str) -> None:
    """Write the number of responses of each band at the right edge, as a range where its series differ."""
    for band, found in places.items():
        counts = sorted({dot.n for dot in dots if dot.band == band and dot.n is not None})
        if counts:
            text = "\u2013".join(f"{count:,}" for count in dict.fromkeys((counts[0], counts[-1])))
            axes.annotate(
                f"n = {text}",
                (1, fmean(found.values())),
                xytext=(_BESIDE_POINTS, 0),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                va="center",
                fontsize=6.5,
                color=colour,
            )


def _notes(dots: Sequence[_Dot], inside: Sequence[_Dot], scale: tuple[float, float] | None) -> Iterable[str]:
    unit = "percent of responses" if scale is None else "mean score, 1 to 5"
    measured = [dot for dot in inside if dot.n is not None]
    yield unit + ("; bars: 95 % intervals; n: responses" if measured else "; the paper prints no intervals")
    if any(dot.low is None for dot in measured):
        yield "dotted: one response, so any mean is possible"
    if len(inside) < len(dots):
        yield f"{counted(len(dots) - len(inside), 'printed value')} outside the scale not drawn"
