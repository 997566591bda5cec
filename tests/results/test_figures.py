"""The paper's figures: what is drawn, the files written, and hostile names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

import icl_local
from icl_local.cli import icl
from icl_local.exceptions import ConfigError, DiskFull, UnknownName
from icl_local.results import figures, paper_tables
from icl_local.vocabulary import FIGURES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

pytest.importorskip("matplotlib", reason="matplotlib is in the report extra")


def test_figures_are_written_as_png_and_svg(complicated: Path, tmp_path: Path) -> None:
    drawn = [figures.draw_figure(complicated, name) for name in ("2", "3", "4")]
    written = [path for drawing in drawn for path in drawing.save(tmp_path, dpi=30)]
    assert sorted(path.name for path in written) == sorted(path.name for path in tmp_path.iterdir())
    assert len(written) == 6
    assert (tmp_path / "figure_2.png").read_bytes().startswith(b"\x89PNG")
    svg = (tmp_path / "figure_3.svg").read_text(encoding="utf-8")
    assert "Llama3.2 1B" in svg
    assert "urial with DPO" in svg


def test_the_figures_command_says_what_it_wrote_and_what_has_no_rows(empty_database: Path, tmp_path: Path) -> None:
    command = ["figures", "size", "-o", str(tmp_path), "--db", str(empty_database)]
    assert "no rows for it" in CliRunner().invoke(icl, command).output
    result = CliRunner().invoke(icl, [*command, "--published"])
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == [str(tmp_path / "figure_size.png"), str(tmp_path / "figure_size.svg")]


def test_figures_and_report_show_what_the_tables_show(complicated: Path, tmp_path: Path) -> None:
    drawn = []
    for more in ([], ["--reading", "just_eval"], ["--dataset", "no such set"], ["--settings", "no such settings"]):
        result = CliRunner().invoke(icl, ["figures", "2", "-o", str(tmp_path), "--db", str(complicated), *more])
        drawn.append(str(result.exception) if result.exception else (tmp_path / "figure_2.svg").read_text("utf-8"))
    assert drawn[0] != drawn[1]
    assert drawn[2].startswith("no dataset 'no such set'")
    assert drawn[3].startswith("no settings 'no such settings'")
    page = tmp_path / "r.html"
    report = ["report", "-o", str(page), "--responses", "0", "--loops", "literal", "--db", str(complicated)]
    assert CliRunner().invoke(icl, report).exit_code == 0
    assert "Loops: literal" in page.read_text("utf-8")
    with pytest.raises(UnknownName, match="no settings"):
        icl_local.report(complicated, page, settings="no such settings")
    with pytest.raises(UnknownName, match="no dataset"):
        icl_local.figure(complicated, 4, dataset="no such set")


def test_a_figure_survives_hostile_names_and_has_no_style_that_a_policy_refuses() -> None:
    rows = [
        {
            "language": "en",
            "model": "<b>$x^$\x1b & co",
            "method": "zero-shot",
            "dpo": dpo,
            "error": error,
            "percent": 1.5,
        }
        for dpo in (False, True)
        for error in ("infinite_loop", "unintended_code")
    ]

    figure = figures.draw(Rows(*rows), "4")  # type: ignore[arg-type]
    assert figure is not None
    drawn = figures.inline_svg(figure, label='a "b"')
    assert drawn.startswith('<svg role="img" aria-label=')
    assert " style=" not in drawn
    assert "<style" not in drawn
    assert "<b>" not in drawn
    assert "&lt;b&gt;$x^$" in drawn
    assert "\x1b" not in drawn


def drawn_dots(figure: Figure) -> dict[str, list[float]]:
    """Return the values that are marked in each panel, by its title."""
    return {
        axes.get_title(loc="left"): sorted(line.get_xdata()[0] for line in axes.lines if line.get_marker() != "None")
        for axes in figure.axes
    }


def test_figure_2_has_a_panel_for_each_model_and_language_with_a_dot_for_each_score(complicated: Path) -> None:
    with paper_tables.open_views(complicated) as views:
        rows, figure = views.rows("figure_2"), figures.draw(views, "2")
    assert figure is not None
    names = {"en": "English", "es": "Spanish", "fr": "French"}
    expected: dict[str, list[float]] = {}
    for row in rows:
        expected.setdefault(f"{row['model']}, {names[row['language']]}", []).append(row["value"])
    assert drawn_dots(figure) == {title: sorted(values) for title, values in expected.items()}
    assert {axes.get_xlim() for axes in figure.axes} == {(1.0, 5.0)}


def test_figure_3_has_a_panel_for_each_model_with_a_dpo_variant(complicated: Path) -> None:
    with paper_tables.open_views(complicated) as views:
        rows, figure = views.rows("figure_3"), figures.draw(views, "3")
    assert figure is not None
    assert set(drawn_dots(figure)) == {row["model"] for row in rows}
    names = {text.get_text() for axes in figure.axes for text in axes.texts}
    assert names >= {f"{row['method']}{' with DPO' if row['dpo'] else ''}" for row in rows}


def test_figure_4_has_a_dot_and_an_interval_for_each_cell_and_error_in_percent(complicated: Path) -> None:
    with paper_tables.open_views(complicated) as views:
        rows, figure = views.rows("figure_4"), figures.draw(views, "4")
    assert figure is not None
    values = sorted(value for found in drawn_dots(figure).values() for value in found)
    assert values == sorted(row["percent"] for row in rows)
    assert sum(len(axes.collections) for axes in figure.axes) == len(rows)
    assert all(axes.get_xlim() == (0, max(row["ci_high"] for row in rows)) for axes in figure.axes)


def score(metric: str, value: float, n: int | None, low: float | None, high: float | None) -> dict[str, object]:
    """Return one row of figure_2."""
    cell = {"language": "en", "model": "m", "method": "urial", "metric": metric}
    return cell | {"value": value, "ci_low": low, "ci_high": high, "n": n}


class Rows:
    """A view with the rows given."""

    def __init__(self, *rows: dict[str, object]) -> None:
        self._rows = list(rows)

    def rows(self, view: str) -> list[dict[str, object]]:
        return self._rows


def test_one_response_is_drawn_as_any_score_and_the_number_of_responses_is_shown() -> None:
    rows = Rows(score("depth", 4.0, 1, None, None), score("clarity", 3.0, 20, 2.5, 3.5))
    figure = figures.draw(rows, "2")  # type: ignore[arg-type]
    assert figure is not None
    bars = [bar.get_segments()[0][:, 0].tolist() for bar in figure.axes[0].collections]
    assert bars == [[2.5, 3.5], [1.0, 5.0]]
    assert {"n = 1", "n = 20"} < {text.get_text() for text in figure.axes[0].texts}


def test_a_printed_value_outside_the_scale_does_not_change_it() -> None:
    figure = figures.draw(Rows(score("depth", 2981, None, None, None)), "2")  # type: ignore[arg-type]
    assert figure is not None
    assert drawn_dots(figure) == {"English": []}
    assert "1 printed value outside the scale not drawn" in figure.get_supxlabel()


def test_without_any_error_the_axis_ends_at_one_percent() -> None:
    row = {"language": "en", "model": "m", "method": "urial", "dpo": False, "error": "infinite_loop", "percent": 0.0}
    figure = figures.draw(Rows(row), "4")  # type: ignore[arg-type]
    assert figure is not None
    assert figure.axes[0].get_xlim() == (0.0, 1.0)
    assert drawn_dots(figure) == {"infinite loops": [0.0]}


def test_the_theme_is_the_ground_of_the_figure(empty_database: Path, tmp_path: Path) -> None:
    command = ["figures", "3", "--published", "-o", str(tmp_path), "--db", str(empty_database)]
    result = CliRunner().invoke(icl, command, auto_envvar_prefix="ICL", env={"ICL_FIGURES_THEME": "dark"})
    assert result.exit_code == 0, result.output
    assert figures.THEMES["dark"]["paper"] in (tmp_path / "figure_3.svg").read_text(encoding="utf-8")


def test_the_papers_own_cells_fill_every_figure(empty_database: Path) -> None:
    for name, title in FIGURES.items():
        if name == "decoding":  # the paper decodes greedily
            continue
        drawing = figures.draw_figure(empty_database, name, published=True)
        assert drawing.title == title
        assert drawing._repr_svg_().startswith("<svg ")


def test_published_shares_of_tokens_are_named_and_have_no_empty_panel_beside_them(empty_database: Path) -> None:
    (axes,) = figures.draw_figure(empty_database, "shift", published=True).figure.axes
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["unshifted (rank 1)", "marginal (rank 2, 3)", "shifted"]
    assert axes.get_xlim() == (0, 100)


def test_unknown_names_and_empty_databases_are_reported(empty_database: Path) -> None:
    with pytest.raises(UnknownName, match="no figure '5'; there are 2, 3, 4, size, shift, decoding"):
        figures.draw_figure(empty_database, "5")
    with pytest.raises(ConfigError, match=r"Figure 4.*no rows for it"):
        figures.draw_figure(empty_database, "4")


def test_a_folder_that_cannot_be_written_is_reported(empty_database: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot write .*; choose another place with -o"):
        figures.draw_figure(empty_database, "4", published=True).save(tmp_path / "file", dpi=30)


def test_a_full_disk_is_reported_as_one(empty_database: Path, tmp_path: Path) -> None:
    (tmp_path / "figure_4.png").symlink_to("/dev/full")
    with pytest.raises(DiskFull, match="no space left"):
        figures.draw_figure(empty_database, "4", published=True).save(tmp_path, dpi=30)
