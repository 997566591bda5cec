"""The rating page in a real browser: by keys alone, through a kill, and with answers that try to do harm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from icl_local import store
from icl_local.judging import draw_sample, open_rating, rating_page
from icl_local.store import Selection, Store
from tests.chromium import accessibility_faults, appear_as, wait
from tests.judge_rows import database, response_rows

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

HOSTILE = (
    "</div><script>window.hacked = 1</script><style>body { display: none }</style><a href='javascript:hacked = 1'>"
    "link</a><img src=x onerror='window.hacked = 1'>\u202eright to left\u2067 \x1b[31m"
)
LONG = "x" * 10_000_000


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six answers to label, a hostile one and one of a single line of 10 MB among them; one has a loop."""
    rows = response_rows(6, words=12)
    answers = [row for table, row in rows if table == "responses"]
    answers[0]["text"], answers[1]["text"] = HOSTILE, LONG
    path = database(tmp_path_factory.mktemp("page") / "r.duckdb", rows)
    draw_sample(path, "PILOT", Selection(), per_cell=6, seed=1)
    detected = {"error": "infinite_loop", "detector_version": "1"}
    found = [{**detected, "response_id": row["response_id"], "found": row["text"] == LONG} for row in answers]
    with Store(path) as target:
        target.put([("critical_errors", row) for row in found])
    draw_sample(path, "LOOPS", Selection(), per_cell=3, seed=1, by="infinite_loop")
    return path


@contextmanager
def served(db: Path, rater: str, sample: str = "PILOT") -> Iterator[str]:
    """The page of a sample, served by a thread; yields its address."""
    with open_rating(db, sample, rater) as rating, rating_page(rating) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.url
        server.shutdown()
        thread.join()


@contextmanager
def command(db: Path, rater: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`icl browse --rate` as a program of its own; yields it with its address."""
    arguments = ["browse", "--rate", "PILOT", "--rater", rater, "--no-open", "--db", str(db)]
    process = subprocess.Popen(
        [sys.executable, "-c", "from icl_local.cli import main; main()", *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
        process.stdout.close()


class Page:
    """The page, by what a rater does."""

    def __init__(self, chrome: Chrome, url: str) -> None:
        self.chrome = chrome
        chrome.get(url)
        wait(lambda: self.text("#progress") and self.run("return item !== null && !busy"))

    def run(self, script: str) -> Any:
        return self.chrome.execute_script(script)

    def text(self, selector: str) -> str:
        return str(self.run(f"return document.querySelector('{selector}').textContent"))

    def press(self, keys: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.chrome).send_keys(keys).perform()  # type: ignore[no-untyped-call]

    def until(self, status: str) -> None:
        wait(lambda: self.text("#status").startswith(status) and not self.run("return busy"))


def test_rating_by_keys_goes_through_a_kill_and_nothing_is_lost_or_twice(browser: Chrome, db: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    with command(db, "ana") as (process, url):
        page = Page(browser, url)
        page.press("1234" + Keys.ENTER)
        page.until("Engagement has no score yet")
        for number in range(1, 4):
            page.press(4 * Keys.ARROW_UP + "543cbecause\n20" + Keys.ENTER)
            wait(lambda number=number: page.text("#progress") == f"{number} of 6 rated")  # type: ignore[misc]
            page.until("Saved")
        page.press("s")
        page.until("Skipped")
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        page.press("11111" + Keys.ENTER)
        page.until("Not saved: the program behind this page has ended")
    sql = (
        "select response_id, attempt, status, scores, reasons, seconds "
        "from raw.judgments join raw.judges using (judge_id) where model = 'ana' order by created_at"
    )
    before = store.query(db, sql).rows
    assert [row[2] for row in before] == ["not_applicable"] * 3 + ["skipped"]
    assert len({row[0] for row in before}) == 4
    assert before[0][3:5] == ([5.0, 4.0, 3.0, 2.0, None], [None, None, None, "because", None])
    with command(db, "ana") as (_, url):
        page = Page(browser, url)
        assert page.text("#progress") == "3 of 6 rated, 1 skipped"
        assert page.run("return item.id") not in {row[0] for row in before}
        page.press("u")
        page.until("Undone")
        assert page.run("return item.id") == before[3][0]
        page.press("uu")
        wait(lambda: page.text("#progress").startswith(("1 of 6", "2 of 6")) and not page.run("return busy"))
        page.press(Keys.ARROW_LEFT + Keys.ARROW_DOWN)
        wait(lambda: not page.run("return busy"))
    after = store.query(db, sql).rows
    assert after[:4] == before
    assert {row[2] for row in after[4:]} == {"withdrawn"}


def test_in_a_sample_of_errors_1_is_yes_and_0_is_no(browser: Chrome, db: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    with served(db, "cleo", "LOOPS") as url:
        page = Page(browser, url)
        page.press("5" + Keys.ENTER)
        page.until("Infinite Loop has no score yet")
        for number, key in ((1, "1"), (2, "0")):
            page.press(key + Keys.ENTER)
            wait(lambda number=number: page.text("#progress") == f"{number} of 4 rated")  # type: ignore[misc]
            page.until("Saved")
        assert page.run("return [...document.querySelectorAll('.marks button')].map((b) => b.title)") == [
            "no infinite loop",
            "an infinite loop",
        ]
        assert accessibility_faults(browser) == []
    sql = "select scores from raw.judgments join raw.judges using (judge_id) where model = 'cleo' order by created_at"
    assert store.query(db, sql).rows == [([1.0],), ([0.0],)]
    with served(db, "cleo", "LOOPS") as url:
        page = Page(browser, url)
        assert page.text("#progress") == "2 of 4 rated"
        page.press("u")
        page.until("Undone")
        assert page.text("#progress") == "1 of 4 rated"


def test_hostile_answers_are_only_text_and_the_page_can_be_used_by_everyone(browser: Chrome, db: Path) -> None:
    browser.get_log("browser")  # type: ignore[no-untyped-call]
    with served(db, "ben") as url:
        page = Page(browser, url)
        shown = {}
        for number in range(6):
            page.run(f"return show({number})")
            characters, visible = page.run(
                "return [item.answer.length, document.querySelector('#said').textContent.length]"
            )
            shown[characters] = visible
            if characters == len(LONG):
                assert page.text("#whole") == "Show all 10,000,000 characters"
            if characters == len(HOSTILE):
                hostile = number
                assert page.text("#said") == HOSTILE
        assert shown[len(LONG)] == 100_000
        assert shown[len(HOSTILE)] == len(HOSTILE)
        assert page.run("return window.hacked") is None
        assert page.run("return document.querySelectorAll('main a, main img, main style, main script').length") == 0
        page.run(f"return show({hostile})")
        for scheme, width in (("light", 0), ("dark", 390)):
            appear_as(browser, scheme=scheme, width=width)
            assert accessibility_faults(browser) == []
            assert page.run("return document.documentElement.scrollWidth <= innerWidth")
            page.press("u")
            page.until("there is nothing to undo")
            page.press("3")
            assert page.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
        appear_as(browser)
        messages = [entry["message"] for entry in browser.get_log("browser")]  # type: ignore[no-untyped-call]
        assert all("/undo - Failed to load resource: the server responded with a status of 400" in m for m in messages)
