"""The report as a served page: it asks for its data, and follows a run."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from icl_local import store
from icl_local.exceptions import ConfigError, InputError
from icl_local.results import Browser, PageServer, browse, paper_tables, report
from icl_local.store import Store
from tests.chromium import accessibility_faults, wait
from tests.judge_rows import database, response_rows

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

HOSTILE = "</pre><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"


@pytest.fixture(autouse=True)
def _neither_tables_nor_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "_figures", lambda views: ([], ""))
    monkeypatch.setattr(paper_tables, "SCORE_TABLES", ())
    monkeypatch.setattr(paper_tables, "ERROR_TABLES", ())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods, 4 queries; a run of the first is under way and wants 10."""
    rows = [*response_rows(4), *response_rows(4, method="zero-shot", words=12)]
    path = database(tmp_path_factory.mktemp("browse") / "b.duckdb", rows)
    ((cell_id, model_id),) = store.query(path, "select cell_id, model_id from raw.cells where method = 'urial'").rows
    run = {"run_cell_id": "c", "run_id": "run", "cell_id": cell_id, "model_id": model_id, "method": "urial"}
    with Store(path) as target:
        target.put([("run_cells", {**run, "language": "en", "status": "started", "n_wanted": 10, "n_done": 0})])
        target.put(scored(store.query(path, "select min(response_id) from raw.responses").rows[0][0], model_id))
    return path


@pytest.fixture
def db(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(store.spool_folder(made), store.spool_folder(tmp_path / "b.duckdb"))
    return Path(shutil.copy(made, tmp_path / "b.duckdb"))


def scored(response_id: str, model_id: str) -> list[tuple[str, dict[str, Any]]]:
    """Three tokens of an answer, one of each class."""
    texts = [" Sure", HOSTILE, "\n"]
    row = {
        "scoring_id": "s", "kind": "answer", "response_id": response_id, "query_key": "q", "model_id": model_id,
        "gguf_sha256": "g", "method": "same", "language": "en", "prompt_sha256": "p", "run_id": "run", "penalty": 1.0,
        "finish_reason": "scored", "n_bytes": 9, "logprob": -6.0, "tokens": [0, 1, 2], "logprobs": [-1.0, -2.0, -3.0],
        "ranks": [1, 2, 7], "ranks_decoded": [1, 2, 7], "top_ids": [0, 2, 1], "straddles": False, "retokenised": False,
        "created_at": store.now(),
    }  # fmt: skip
    file = {"gguf_sha256": "g", "file_name": "g.gguf", "source": "file", "bytes": 1, "quantization": "F32"}
    tokens = [{"vocab_sha256": "v", "token_id": i, "piece": text} for i, text in enumerate(texts)]
    return [("gguf_files", {**file, "vocab_sha256": "v"}), ("scorings", row), *(("tokens", one) for one in tokens)]


@pytest.fixture
def server(db: Path) -> Iterator[PageServer]:
    shown = Browser(db, judge=None, reading="strict", max_responses=100)
    with PageServer(shown.routes(), {}) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def test_a_finished_cell_has_the_rate_of_its_process(db: Path) -> None:
    """Its answers may all be stored at one moment."""
    with Store(db) as target:
        ended = {"status": "done", "n_done": 10, "new_tokens": 90, "wall_seconds": 30.0, "ended_at": store.now()}
        started = store.named(db, "live_cells").dicts()[0]
        target.put([("run_cells", {**store.query(db, "from raw.run_cells").records()[0], **ended})])
    (cell,) = (row for row in store.named(db, "live_cells").dicts() if row["process"] == "done")
    assert started["process"] == "started"
    assert (cell["answers/min"], cell["tokens/s"]) == (20.0, 3.0)


def one_more(db: Path, text: str) -> None:
    rows = [row for table, row in response_rows(5) if table in ("queries", "responses")]
    with Store(db) as target:
        target.put([("queries", rows[-2]), ("responses", {**rows[-1], "text": text})])


def test_the_page_follows_a_run_and_opens_answers(browser: Chrome, server: PageServer, db: Path) -> None:
    def text(selector: str) -> str:
        return str(browser.execute_script(f"return document.querySelector('{selector}').textContent"))

    browser.get_log("browser")  # type: ignore[no-untyped-call]
    browser.get(server.url)
    wait(lambda: text("#count").startswith("8 of 8") and text("#news").startswith("8 of 14 answers"))
    cells = "return [...document.querySelectorAll('#live-cells tbody tr')].map(r => [...r.cells].map(c => c.innerText))"
    rows: Any = browser.execute_script(cells)
    assert [row[:6] for row in rows] == [
        ["Tiny 1B", "none", "urial", "en", "4", "10"],
        ["Tiny 1B", "none", "zero-shot", "en", "4", "4"],
    ]
    assert (rows[0][-1], rows[1][-1]) == ("started", "")
    assert browser.execute_script("return document.querySelector('#live-cells progress').value") == 4
    one_more(db, HOSTILE)
    browser.execute_script("follow()")
    wait(lambda: "Load 1 new answer" in text("#news"))
    assert text("#latest article pre") == HOSTILE
    assert browser.execute_script("return window.hacked") is None
    tokens = (
        "return [...document.querySelectorAll('#scored-tokens span')].map(s => [s.className, s.textContent, s.title])"
    )
    wait(lambda: len(browser.execute_script(tokens)) == 3)
    shown: Any = browser.execute_script(tokens)
    assert [one[:2] for one in shown] == [["unshifted", " Sure"], ["marginal", HOSTILE], ["shifted", "⏎\n"]]
    assert [one[2].partition(",")[0] for one in shown] == ["rank 1", "rank 2", "rank 7"]
    assert [json.loads(one[2].partition("choice: ")[2]) for one in shown[1:]] == ["\n", HOSTILE]
    assert browser.execute_script("return window.hacked") is None
    browser.execute_script("document.querySelector('#rows tr').click()")
    wait(lambda: browser.execute_script("return document.querySelectorAll('dialog[open] .answer').length") == 2)
    browser.execute_script("document.querySelector('#close').click()")
    assert accessibility_faults(browser) == []
    browser.execute_script("document.querySelector('#news').style.color = '#aaa'")
    assert "color-contrast" in accessibility_faults(browser)[0]
    assert [entry["message"] for entry in browser.get_log("browser")] == []  # type: ignore[no-untyped-call]


def test_a_load_of_the_page_keeps_its_responses_until_it_is_old(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browse, "_KEPT", 1)
    shown = Browser(db, judge=None, reading="strict", max_responses=100)
    page = shown.page()
    assert "connect-src 'self'" in page.policy
    assert page.policy.replace("'", "&#39;") in page.html
    assert shown.page() is page
    first = shown.index("1")
    one_more(db, "new")
    assert shown.index("1") == first
    shown.page()
    assert shown.index("2") != first
    for old in ("1", "99", "x", ""):
        with pytest.raises(InputError, match="load it again"):
            shown.index(old)
    with pytest.raises(InputError, match="load it again"):
        shown.texts("2/7")


def test_a_port_in_use_is_reported(server: PageServer) -> None:
    with pytest.raises(ConfigError, match=f"cannot serve on port {server.server_port}"):
        PageServer({}, {}, port=server.server_port)
