"""The HTML report: what it holds, what it leaves out, and what it does in a real browser."""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import html
import json
import os
import re
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from click.testing import CliRunner

import icl_local
from icl_local.cli import icl
from icl_local.results import report
from icl_local.store.database import Store
from tests import synthetic
from tests.chromium import appear_as, wait

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>\u202e\x1b[31m <b>bold</b>"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small study with a hostile model name, query and answers, and loops behind characters beyond the BMP."""
    path = Path(shutil.copy(synthetic.small(), tmp_path_factory.mktemp("report") / "study.duckdb"))
    with duckdb.connect(str(path)) as con:
        con.execute("update raw.queries set instruction = instruction || ? where query_id = '3'", [HOSTILE])
        con.execute(
            "update raw.responses set text = text || ? where query_key in "
            "(select query_key from raw.queries where query_id = '3')",
            [HOSTILE],
        )
        con.execute("update raw.models set label = ? where label = 'EuroLLM 9B'", [HOSTILE[:60]])
        con.execute(
            "update raw.critical_errors set found = true, start_char = 6, unit = 'again ', copies = 9, span = 54 "
            "where error = 'infinite_loop' and response_id in (select response_id from raw.responses where query_key "
            "in (select query_key from raw.queries where query_id = '5')) and not found"
        )
        con.execute(
            "update raw.responses set text = '\U0001f600\U0001f600 oh ' || repeat('again ', 9) || 'end' "
            "where response_id in (select response_id from raw.critical_errors where start_char = 6)"
        )
    return path


@pytest.fixture(scope="module")
def page(study: Path) -> Path:
    return icl_local.report(study, study.with_name("report.html")).path


_read_once = functools.cache(report.read)


@pytest.fixture
def small_chunks_no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of what is written: a database is read once for all of them."""
    monkeypatch.setattr(report, "_figures", lambda views: ([], ""))
    monkeypatch.setattr(report, "read", _read_once)
    monkeypatch.setattr(report, "_CHUNK_CHARACTERS", 20_000)


def packed(text: str) -> Any:
    return json.loads(gzip.decompress(base64.b64decode(text)))


def index_of(page: Path) -> Any:
    found = re.search(r'<script type="text/plain" id="index">([^<]*)</script>', page.read_text(encoding="utf-8"))
    assert found
    return packed(found[1])


def ask(study: Path, sql: str) -> Any:
    with duckdb.connect(str(study), read_only=True) as con:
        found = con.execute(sql).fetchone()
    assert found
    return found[0]


# The file


def test_the_policy_names_the_one_script_and_the_one_style_by_hash(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1])  # type: ignore[index]
    assert policy.startswith("default-src 'none'; ")
    scripts = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    styles = re.findall(r"<style>(.*?)</style>", text, flags=re.DOTALL)
    assert len(scripts) == len(styles) == 1
    for kind, content in (("script", scripts[0]), ("style", styles[0])):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    markup = re.sub(r"<(script|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    assert not re.search(r"\sstyle=|\son\w+=[\"']|<script|javascript:", markup)
    assert set(re.findall(r"(?:src|href)=\"([^\"#][^\"]*)\"", markup)) <= {"data:,"}


def test_every_response_is_in_the_page_with_its_text_scores_and_errors(study: Path, page: Path) -> None:
    index = index_of(page)
    total = ask(study, "select count(*) from responses")
    assert len(index["cell"]) == len(index["chunk"]) == total
    assert None not in index["chunk"]
    chunks = [packed(text) for text in re.findall(r'class="texts">([^<]*)<', page.read_text(encoding="utf-8"))]
    texts = sorted(chunks[chunk][at]["text"] for chunk, at in zip(index["chunk"], index["at"], strict=True))
    with duckdb.connect(str(study), read_only=True) as con:
        assert texts == sorted(text for (text,) in con.execute("select text from responses").fetchall())
    loops = ask(study, "select count(*) from response_errors where error = 'infinite_loop' and failed")
    code = ask(study, "select count(*) from response_errors where error = 'unintended_code' and failed")
    assert sum(errors & 1 for errors in index["errors"]) >= loops > 20
    assert sum(errors & 2 > 0 for errors in index["errors"]) == code > 20
    scored = ask(study, "select count(avg) from response_scores where judge like 'openai%' and reading = 'strict' "
                        "and template = 'multi'")  # fmt: skip
    assert abs(sum(value is not None for value in index["scores"]["avg"]) - scored) <= scored * 0.1


def test_previews_say_where_they_end_and_provenance_has_no_empty_columns(page: Path) -> None:
    index = index_of(page)
    cut = [preview.endswith("…") for preview in index["preview"]]
    assert all(is_cut or length <= 110 for is_cut, length in zip(cut, index["length"], strict=True))
    assert any(cut)
    assert not all(cut)
    text = page.read_text(encoding="utf-8")
    assert ">template sha256<" in text
    assert ">base URL<" not in text


def test_scores_and_reasons_are_by_the_judge_template_that_the_tables_show(tmp_path: Path) -> None:
    path = Path(shutil.copy(synthetic.small(), tmp_path / "study.duckdb"))
    with duckdb.connect(str(path)) as con:  # a template that comes first by name and scores higher
        con.execute(
            "update raw.judgments set template_sha256 = '0', scores = [5, 5, 5, 5, 5], "
            "reasons = ['other', 'other', 'other', 'other', 'other'] where template_sha256 = 'other'"
        )
        con.execute("update raw.judge_templates set template_sha256 = '0' where template_sha256 = 'other'")
    page, rows = report.read(path, judge=None, reading="strict", max_responses=10**6)
    with duckdb.connect(str(path), read_only=True) as con:
        found = con.execute(
            "select response_id, score.avg from response_scores as score join responses using (response_id) "
            "where judge = 'openai:synthetic-judge' and reading = 'strict' and template = 'multi'"
        ).fetchall()
        means = con.execute(
            "select value, model, method, language, if(dpo, 'DPO', ''), round(mean, 4) from score_breakdown "
            "where dimension = 'task' and judge = 'openai:synthetic-judge' and reading = 'strict' and metric = 'avg' "
            "and template = 'multi'"
        ).fetchall()
    wanted = dict(found)
    assert len(wanted) > 1000
    for row in rows:
        scores = row["scores"] or {"avg": None, "safety": None}
        assert scores["avg"] == wanted.get(row["response_id"])
        assert "other" not in {given["reason"] for given in row["reasons"] or []}
    assert sum(bool(row["scores"] and row["scores"]["safety"]) for row in rows) > 200
    groups = page["breakdowns"]
    at = [groups["columns"].index(name) for name in ("value", "model", "method", "language", "dpo", "five aspects")]
    shown = {tuple(row[i] for i in at) for row in groups["rows"] if row[0] == "task" and row[at[-1]] is not None}
    assert shown == set(means)


@pytest.mark.usefixtures("small_chunks_no_figures")
def test_the_file_can_be_read_by_whom_the_umask_allows_and_replaces_an_older_one(study: Path, tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    path.write_text("old")
    before = os.umask(0o027)
    try:
        made = icl_local.report(study, path, responses=0)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert made.bytes == path.stat().st_size
    assert [item.name for item in tmp_path.iterdir()] == ["r.html"]


@pytest.mark.usefixtures("small_chunks_no_figures")
def test_reasons_go_before_texts_and_what_is_left_out_is_reported(study: Path, tmp_path: Path) -> None:
    whole = icl_local.report(study, tmp_path / "whole.html")
    bare = icl_local.report(study, tmp_path / "bare.html", max_mb=1e-6)
    assert bare.texts == 0
    text = (tmp_path / "bare.html").read_text(encoding="utf-8")
    assert f"The texts of {bare.responses:,} responses are left out" in text
    assert len(index_of(tmp_path / "bare.html")["errors"]) == whole.responses
    for limit in (whole.bytes - 2_000, (whole.bytes + bare.bytes) // 2):
        made = icl_local.report(study, tmp_path / "limited.html", max_mb=limit / 1e6)
        assert made.bytes <= limit
        assert made.responses == whole.responses
        text = (tmp_path / "limited.html").read_text(encoding="utf-8")
        assert re.search(r"The (judge&#39;s reasons|texts of [\d,]+ responses) are left out to stay under", text)
    assert 0 < made.texts < whole.texts


@pytest.mark.usefixtures("small_chunks_no_figures")
def test_a_limit_of_responses_keeps_whole_queries_of_both_splits(study: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        icl, ["report", "-o", str(tmp_path / "r.html"), "--responses", "600", "--db", str(study)]
    )
    assert result.exit_code == 0, result.output
    index = index_of(tmp_path / "r.html")
    assert 400 < len(index["cell"]) <= 600
    assert {query["split"] for query in index["queries"]} == {"multi", "safety"}
    shown = {query["id"] for query in index["queries"]}
    counted = ask(study, f"select count(*) from responses where query_id in ({', '.join(repr(q) for q in shown)})")
    assert counted == len(index["cell"])
    assert "responses are left out (--responses)" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_without_matplotlib_the_page_says_what_to_install(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    icl_local.report(study, tmp_path / "r.html", responses=0)
    assert "icl-local[report]" in (tmp_path / "r.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("small_chunks_no_figures")
def test_open_shows_the_page_in_the_browser(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr("webbrowser.open", shown.append)
    path = tmp_path / "a page.html"
    result = CliRunner().invoke(icl, ["report", "-o", str(path), "--responses", "0", "--open", "--db", str(study)])
    assert result.exit_code == 0, result.output
    assert shown == [path.as_uri()]
    assert "no browser here" in result.stderr


@pytest.mark.usefixtures("small_chunks_no_figures")
def test_a_folder_that_is_not_there_is_reported(study: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        icl, ["report", "-o", str(tmp_path / "no" / "r.html"), "--responses", "0", "--db", str(study)]
    )
    assert result.exit_code == 1
    assert "cannot write" in str(result.exception)


@pytest.mark.soak
def test_forty_thousand_responses_fit_in_fifty_megabytes(tmp_path: Path) -> None:
    path = synthetic.build(tmp_path / "large.duckdb", queries=1334, words=240)
    made = icl_local.report(path, tmp_path / "large.html")
    assert ask(path, "select avg(length(text)) from responses") > 1200
    assert made.responses >= 39_990
    assert made.bytes < 50_000_000


# In Chromium


class Page:
    """The report in the browser, by what a reader does."""

    def __init__(self, chrome: Chrome, path: Path) -> None:
        self.chrome = chrome
        chrome.get(path.as_uri())
        wait(lambda: "responses" in self.text("#count"))

    def all(self, selector: str) -> Any:
        return self.chrome.find_elements("css selector", selector)

    def one(self, selector: str) -> Any:
        return self.chrome.find_element("css selector", selector)

    def text(self, selector: str) -> str:
        return str(self.one(selector).text)

    def run(self, script: str) -> Any:
        return self.chrome.execute_script(script)

    def choose(self, selector: str, value: str) -> None:
        from selenium.webdriver.support.ui import Select

        Select(self.one(selector)).select_by_visible_text(value)

    def column(self, number: int) -> list[str]:
        return list(
            self.run(f"return [...document.querySelectorAll('#rows td:nth-child({number})')].map(c => c.textContent)")
        )

    def count(self) -> int:
        return int(self.text("#count").split()[0].replace(",", ""))

    def check_filtered(self, expected: int) -> None:
        wait(lambda: not self.text("#count").startswith("searching") and self.count() == expected)


@pytest.fixture
def opened(browser: Chrome, page: Path) -> Page:
    return Page(browser, page)


def test_the_page_opens_without_errors_requests_or_running_what_it_shows(browser: Chrome, page: Path) -> None:
    browser.get_log("browser"), browser.get_log("performance")  # type: ignore[no-untyped-call]
    opened = Page(browser, page)
    assert opened.run("return window.hacked") is None
    assert opened.run("return document.querySelectorAll('img').length") == 0
    assert len(opened.all("figure.drawing svg")) == 4
    assert opened.run("return getComputedStyle(document.querySelector('h1')).fontWeight") == "700"
    assert [entry["message"] for entry in browser.get_log("browser")] == []  # type: ignore[no-untyped-call]
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]  # type: ignore[no-untyped-call]
    asked = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    assert {url for url in asked if not url.startswith("data:")} == {page.as_uri()}


@pytest.mark.parametrize(("scheme", "ground"), [("light", [255, 255, 255]), ("dark", [13, 17, 23])])
def test_page_and_figures_follow_the_readers_colours_and_fit_a_phone(
    opened: Page, scheme: str, ground: list[int]
) -> None:
    appear_as(opened.chrome, scheme=scheme, width=400)
    try:
        body = opened.run("return getComputedStyle(document.body).backgroundColor")
        figure = opened.run("return getComputedStyle(document.querySelector('.drawing svg path')).fill")
        assert body == figure == f"rgb({', '.join(map(str, ground))})"
        assert opened.run("return document.documentElement.scrollWidth") == 400
    finally:
        appear_as(opened.chrome)


def test_filters_find_what_sql_finds(opened: Page, study: Path) -> None:
    total = ask(study, "select count(*) from responses")
    opened.check_filtered(total)
    for selector, label, where in (
        ("[name=method]", "urial", "method = 'urial'"),
        ("[name=language]", "es", "method = 'urial' and language = 'es'"),
        ("[name=task]", "procedure", "method = 'urial' and language = 'es' and list_contains(task, 'procedure')"),
    ):
        opened.choose(selector, label)
        opened.check_filtered(ask(study, f"select count(*) from responses where {where}"))
    opened.one("button[type=reset]").click()
    opened.check_filtered(total)
    opened.choose("[name=error]", "unintended code")
    opened.check_filtered(ask(study, "select count(*) from response_errors where error = 'unintended_code' and failed"))
    assert {"code"} <= {text for tags in opened.column(6) for text in re.findall("loop|code", tags)}
    opened.choose("[name=error]", "infinite loop")
    opened.check_filtered(
        ask(study, "select count(*) from raw.critical_errors where error = 'infinite_loop' and found")
    )


def test_scores_filter_and_sort(opened: Page) -> None:
    opened.choose("[name=metric]", "safety")
    opened.one("[name=low]").send_keys("2")
    opened.one("[name=high]").send_keys("4")
    index = index_of(Path(opened.chrome.current_url.removeprefix("file://")))
    wanted = sorted(value for value in index["scores"]["safety"] if value is not None and 2 <= value <= 4)
    opened.check_filtered(len(wanted))
    opened.one("[data-sort=score]").click()
    wait(lambda: opened.column(5)[:5] == [f"{value:.2f}" for value in wanted[::-1][:5]])
    opened.one("[data-sort=score]").click()
    wait(lambda: opened.column(5)[:5] == [f"{value:.2f}" for value in wanted[:5]])


def test_tables_sort_by_number_and_back(opened: Page) -> None:
    opened.run("window.first = document.querySelector('#tables table')")
    values = "return [...first.tBodies[0].rows].map(row => row.cells[2].textContent.replace(/[^\\d.]/g, ''))"
    before = [float(value) for value in opened.run(values)]
    header = opened.all("#tables table th button")[2]
    opened.run("document.querySelector('#tables').scrollIntoView()")
    header.click()
    assert [float(value) for value in opened.run(values)] == sorted(before, reverse=True) != before
    assert opened.run("return first.tHead.querySelectorAll('th')[2].getAttribute('aria-sort')") == "descending"
    header.click()
    assert [float(value) for value in opened.run(values)] == sorted(before)


def test_a_response_opens_with_its_loop_marked_beside_the_other_methods(opened: Page, study: Path) -> None:
    opened.choose("[name=model]", "Llama3.1 8B")
    opened.choose("[name=language]", "fr")
    opened.choose("[name=error]", "infinite loop")
    where = "model = 'Llama3.1 8B' and language = 'fr'"
    found = f"(select response_id from raw.critical_errors where error = 'infinite_loop' and found) and {where}"
    opened.check_filtered(ask(study, f"select count(*) from responses where response_id in {found}"))
    row = next(row for row in opened.all("#rows tr") if row.find_elements("css selector", "td")[0].text == "5")
    row.click()
    wait(lambda: opened.all("dialog[open] mark.loop"))
    assert opened.text("#opened-title") == "Query 5"
    assert opened.run("return document.querySelector('.answer.chosen mark').textContent") == "again " * 9
    assert opened.run("return document.querySelector('.answer.chosen pre').textContent").startswith(
        "\U0001f600\U0001f600 oh again "
    )
    beside = ask(study, f"select count(*) from responses where query_id = '5' and {where}")
    assert len(opened.all(".answer")) == beside >= 3
    assert len(opened.all(".answer.chosen")) == 1
    opened.choose("#beside", "every answer to this query")
    everyone = ask(study, "select count(*) from responses where query_id = '5' and language = 'fr'")
    wait(lambda: len(opened.all(".answer")) == everyone)
    assert everyone > beside
    opened.one("#close").click()
    wait(lambda: not opened.all("dialog[open]"))


def test_search_looks_into_answers_and_hostile_text_is_only_text(opened: Page, study: Path) -> None:
    opened.one("[name=text]").send_keys("window.hacked")
    opened.check_filtered(ask(study, "select count(*) from responses where query_id = '3'"))
    opened.all("#rows tr")[0].click()
    wait(lambda: opened.all("dialog[open] .answer"))
    assert HOSTILE[:70] in opened.run("return document.querySelector('.answer.chosen pre').textContent")
    assert HOSTILE[:70] in opened.run("return document.querySelector('#opened-query').textContent")
    assert opened.run("return window.hacked") is None
    assert opened.run("return document.querySelectorAll('img, b b').length") == 0
    opened.one("#close").click()


def test_rows_are_drawn_as_the_list_is_scrolled(opened: Page) -> None:
    drawn = len(opened.all("#rows tr"))
    assert 100 <= drawn < opened.count()
    opened.run("document.querySelector('#responses').scrollIntoView()")
    opened.run("document.querySelector('#list').scrollTop = 1e6")
    wait(lambda: len(opened.all("#rows tr")) > drawn)


def test_breakdowns_change_with_what_is_chosen(opened: Page, study: Path) -> None:
    opened.choose("#dimension", "difficulty")
    opened.choose("#group-value", "hard")
    opened.choose("#group-language", "es")
    rows = opened.run("return [...document.querySelectorAll('#group-table tbody tr')].map(r => r.cells[0].textContent)")
    cells = ask(study, "select count(*) from paper_cells where language = 'es'")
    assert rows == ["hard"] * cells


@pytest.mark.usefixtures("small_chunks_no_figures")
@pytest.mark.parametrize("judged", [False, True])
def test_a_database_without_answers_or_judge_opens_too(browser: Chrome, tmp_path: Path, judged: bool) -> None:
    path = tmp_path / "e.duckdb"
    if judged:
        shutil.copy(synthetic.made(80, 2), path)
        with duckdb.connect(str(path)) as con:
            con.execute("delete from raw.judgments")
    else:
        Store(path).close()
    browser.get_log("browser")  # type: ignore[no-untyped-call]
    opened = Page(browser, icl_local.report(path, tmp_path / "e.html").path)
    assert opened.count() == (2400 if judged else 0)
    assert [entry["message"] for entry in browser.get_log("browser")] == []  # type: ignore[no-untyped-call]
