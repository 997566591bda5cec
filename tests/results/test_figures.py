"""The paper's figures: what is drawn, the files written, and hostile names."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from icl_local.cli import icl
from icl_local.exceptions import ConfigError, UnknownName
from icl_local.results import figures, paper_tables

pytest.importorskip("matplotlib", reason="matplotlib is in the report extra")


def test_figures_are_written_as_png_and_svg(complicated: Path, tmp_path: Path) -> None:
    with paper_tables.open_views(complicated) as views:
        written = figures.save(views, tmp_path, names=("2", "3", "4"), dpi=30)
    assert sorted(path.name for path in written) == sorted(path.name for path in tmp_path.iterdir())
    assert len(written) == 6
    assert (tmp_path / "figure_2.png").read_bytes().startswith(b"\x89PNG")
    drawn = (tmp_path / "figure_3.svg").read_text(encoding="utf-8")
    assert "Llama3.2 1B, English" in drawn
    assert "urial with DPO" in drawn


def test_the_figures_command_says_what_it_wrote_and_what_has_no_rows(empty_database: Path, tmp_path: Path) -> None:
    command = ["figures", "size", "-o", str(tmp_path), "--db", str(empty_database)]
    assert "no rows for it" in CliRunner().invoke(icl, command).output
    result = CliRunner().invoke(icl, [*command, "--published"])
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == [str(tmp_path / "figure_size.png"), str(tmp_path / "figure_size.svg")]


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

    class Rows:
        def rows(self, view: str) -> list[dict[str, object]]:
            return rows

    figure = figures.draw(Rows(), "4")  # type: ignore[arg-type]
    assert figure is not None
    drawn = figures.inline_svg(figure, label='a "b"')
    assert drawn.startswith('<svg role="img" aria-label=')
    assert " style=" not in drawn
    assert "<style" not in drawn
    assert "<b>" not in drawn
    assert "&lt;b&gt;$x^$" in drawn
    assert "\x1b" not in drawn


def test_figure_2_has_a_panel_for_each_language_and_a_series_for_each_model_and_method(complicated: Path) -> None:
    with paper_tables.open_views(complicated) as views:
        rows, figure = views.rows("figure_2"), figures.draw(views, "2")
    assert figure is not None
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["English", "Spanish", "French"]
    for axes, language in zip(figure.axes, ("en", "es", "fr"), strict=True):
        series = {(row["model"], row["method"]) for row in rows if row["language"] == language}
        assert len(axes.containers) == len(series)
    heights = [value for bars in figure.axes[0].containers for value in bars.lines[0].get_ydata()]
    assert sorted(heights) == sorted(row["value"] for row in rows if row["language"] == "en")


def test_figure_3_has_a_panel_for_each_model_with_a_dpo_variant(complicated: Path) -> None:
    with paper_tables.open_views(complicated) as views:
        rows, figure = views.rows("figure_3"), figures.draw(views, "3")
    assert figure is not None
    cells = dict.fromkeys((row["model"], row["language"]) for row in rows)
    names = {"en": "English", "es": "Spanish", "fr": "French"}
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == [f"{model}, {names[language]}" for model, language in cells]
    labels = {text.get_text() for legend in figure.legends for text in legend.get_texts()}
    assert labels == {f"{row['method']}{' with DPO' if row['dpo'] else ''}" for row in rows}


def test_figure_4_has_a_bar_for_each_cell_and_error_in_percent(complicated: Path) -> None:
    with paper_tables.open_views(complicated) as views:
        rows, figure = views.rows("figure_4"), figures.draw(views, "4")
    assert figure is not None
    widths = sorted(round(bar.get_width(), 6) for bar in figure.axes[0].patches if bar.get_height() > 0.5)
    assert widths == sorted(round(row["percent"], 6) for row in rows)


def test_the_papers_own_cells_fill_every_figure(empty_database: Path) -> None:
    for name, title in figures.TITLES.items():
        drawing = figures.draw_figure(empty_database, name, published=True)
        assert drawing.title == title
        assert drawing._repr_svg_().startswith("<svg ")


def test_unknown_names_and_empty_databases_are_reported(empty_database: Path) -> None:
    with pytest.raises(UnknownName, match="no figure '5'; there are 2, 3, 4, size"):
        figures.draw_figure(empty_database, "5")
    with pytest.raises(ConfigError, match=r"Figure 4.*no rows for it"):
        figures.draw_figure(empty_database, "4")


def test_a_folder_that_cannot_be_written_is_reported(empty_database: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot write .*; choose another folder with -o"):
        figures.draw_figure(empty_database, "4", published=True).save(tmp_path / "file", dpi=30)
