"""A person labels a sample: what is asked, stored and taken back, and what the page's server lets in and out."""

from __future__ import annotations

import http.client
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from icl_local import store
from icl_local.exceptions import ConfigError, InputError, JudgeError, UnknownName
from icl_local.judging import draw_sample, open_rating, rating_page
from icl_local.judging.rating import Rating
from icl_local.results import PageServer
from icl_local.store import Selection, Store, spool
from tests.judge_rows import database, response_rows

ASPECTS = ("helpfulness", "clarity", "factuality", "depth", "engagement")
SECRETS = ("Concealed 7B", "hiddenmethod", "Q9_SECRET", "finishedso", "2.125")
GOOD = dict.fromkeys(ASPECTS, 4)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three methods with 30 queries; two of them gave the same texts. A judge's scores; a sample of 25 queries."""
    kinds = (("urial", 8), ("zero-shot", 8), ("hiddenmethod", 12))
    cells = [response_rows(30, model="Concealed 7B", method=method, words=words) for method, words in kinds]
    path = database(tmp_path_factory.mktemp("rating") / "r.duckdb", *cells)
    with store.writer(path, wait_seconds=1) as con:
        con.execute("update raw.responses set finish_reason = 'finishedso', gguf_sha256 = 'g'")
    file = {"gguf_sha256": "g", "file_name": "f.gguf", "source": "file", "bytes": 1, "quantization": "Q9_SECRET"}
    template = {"template_sha256": "t", "name": "multi", "text": "", "metrics": list(ASPECTS)}
    judge = {"judge_id": "j", "name": "openai:few", "backend": "openai", "model": "few"}
    verdict = {"judgment_id": "v", "attempt": 1, "judge_id": "j", "template_sha256": "t", "repeat": 0, "status": "ok"}
    ((answer,),) = store.query(path, "select min(response_id) from responses where method = 'urial'").rows
    scores = {"response_id": answer, "scores": [2.125] * 5, "not_applicable": [False] * 5, "created_at": store.now()}
    with Store(path) as target:
        target.put([("gguf_files", file), ("judges", judge), ("judge_templates", template)])
        target.put([("judgments", {**verdict, **scores})])
    draw_sample(path, "PILOT", Selection(), per_cell=25, seed=1)
    return path


@pytest.fixture
def db(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(store.spool_folder(made), store.spool_folder(tmp_path / "r.duckdb"))
    return Path(shutil.copy(made, tmp_path / "r.duckdb"))


def labels(db: Path) -> list[dict[str, Any]]:
    sql = (
        "select judgment.* from raw.judgments as judgment join raw.judges using (judge_id) where backend = 'human' "
        "order by judgment.created_at, judgment_id"
    )
    return store.query(db, sql).dicts()


def rate(rating: Rating, number: int, **more: Any) -> dict[str, Any]:
    return rating.save({"id": rating.item(number)["id"], "scores": GOOD, "seconds": 12.5, **more})


# The work


def test_one_text_is_shown_once_and_its_verdict_is_in_the_spool_for_each_response(db: Path) -> None:
    with open_rating(db, "PILOT", "ana") as rating:
        assert rating.progress() == {"items": 50, "rated": 0, "skipped": 0, "next": 0}
        shared = next(item for item in rating.items if len(item.tasks) == 2)
        scores: dict[str, Any] = {**GOOD, "factuality": "N/A"}
        rate(rating, shared.number, scores=scores, comments={"depth": "thin"})
        spooled = [row for row in spool.read(store.spool_folder(db)) if row.table == "judgments"][-2:]
    first, second = labels(db)
    assert {row.row["response_id"] for row in spooled} == {first["response_id"], second["response_id"]}
    assert first["response_id"] != second["response_id"]
    for row in (first, second):
        assert (row["status"], row["attempt"], row["seconds"]) == ("not_applicable", 1, 12.5)
        assert row["scores"] == [4.0, 4.0, None, 4.0, 4.0]
        assert row["not_applicable"] == [False, False, True, False, False]
        assert row["reasons"] == [None, None, None, "thin", None]
        assert row["template_sha256"] == shared.template.sha256
    judge = store.query(db, "select distinct judge, template from judgments where judge like 'human%'").rows
    assert judge == [("human:ana", "multi")]
    progress = store.query(
        db,
        "select method, metric, n_wanted, n_labelled, n_na, n_skipped, median_seconds from sample_progress "
        "where metric in ('depth', 'factuality') and n_labelled + n_na > 0 order by all",
    ).rows
    assert [row[1:] for row in progress] == [("depth", 25, 1, 0, 0, 12.5), ("factuality", 25, 0, 1, 0, 12.5)] * 2


def test_labels_reach_the_database_while_the_page_is_open(db: Path) -> None:
    with open_rating(db, "PILOT", "ana") as rating:
        for _ in range(64):
            rate(rating, 0)
        assert labels(db)


def test_an_answer_is_shown_as_the_judges_get_it_with_their_rubric(made: Path) -> None:
    with open_rating(made, "PILOT", "ana") as rating:
        item, shown = rating.items[7], rating.item(7)
    assert f"{shown['query']}\n\n## Output:\n{shown['answer']}\n" in item.template.fill(item.instruction, item.text)
    assert [aspect["metric"] for aspect in shown["aspects"]] == list(ASPECTS)
    assert shown["aspects"][1]["line"].startswith("Rate the response based on how well-structured it is")
    assert shown["scale"] == ["strongly disagree", "disagree", "neutral", "agree", "strongly agree"]


def test_raters_differ_in_order_within_blocks_of_twenty_queries(made: Path) -> None:
    orders = []
    for rater in ("ana", "ben"):
        with open_rating(made, "PILOT", rater) as rating:
            orders.append([(item.instruction, item.response_id) for item in rating.items])
    ana, ben = orders
    assert ana != ben
    assert sorted(ana[:40]) == sorted(ben[:40])
    assert len({instruction for instruction, _ in ana[:40]}) == 20
    assert {instruction for instruction, _ in ana[:40]}.isdisjoint(instruction for instruction, _ in ana[40:])
    assert any(a[0] != b[0] for a, b in zip(ana[:40:2], ana[1:40:2], strict=True))


def test_undo_restores_what_stood_before_also_after_a_restart(db: Path) -> None:
    with open_rating(db, "PILOT", "ana") as rating:
        for number, score in ((0, 1), (1, 2), (0, 3)):
            rate(rating, number, scores=dict.fromkeys(ASPECTS, score))
        rating.skip({"id": rating.item(2)["id"]})
        assert rating.progress(2)["next"] == 3
    with open_rating(db, "PILOT", "ana") as rating:
        assert rating.progress() == {"items": 50, "rated": 2, "skipped": 1, "next": 3}
        assert rating.undo()["number"] == 2
        assert rating.undo()["number"] == 0
        assert rating.item(0)["scores"] == dict.fromkeys(ASPECTS, 1.0)
        assert [rating.undo()["number"] for _ in range(2)] == [1, 0]
        with pytest.raises(InputError, match="nothing to undo"):
            rating.undo()
        assert rating.progress()["rated"] == 0
        first = rating.items[0].response_id
    assert [row["status"] for row in labels(db) if row["response_id"] == first] == ["ok", "ok", "ok", "withdrawn"]
    standing = "select status, score from scores where judge = 'human:ana' and score is not null"
    assert store.query(db, standing).rows == []


def test_labels_and_undos_are_those_of_every_sample_that_holds_the_answer(db: Path) -> None:
    draw_sample(db, "SMALL", Selection(method="hiddenmethod"), per_cell=3, seed=1)
    with open_rating(db, "SMALL", "ana") as rating:
        rate(rating, 0)
        shared = rating.items[0].response_id
    with open_rating(db, "PILOT", "ana") as rating:
        other = next(item.number for item in rating.items if len(item.tasks) == 2)
        rate(rating, other)
    with open_rating(db, "SMALL", "ana") as rating:
        rating.undo()
    with open_rating(db, "PILOT", "ana") as rating:
        assert [item.number for item in rating.items if item.given] == [other]
        assert [item.state for item in rating.items if item.response_id == shared] == ["open"]
        assert rating.undo()["number"] == other
        for number in range(10):
            rate(rating, number)
    draw_sample(db, "PILOT", Selection(), per_cell=30, seed=1)  # a larger sample keeps what is labelled
    with open_rating(db, "PILOT", "ana") as rating:
        assert (rating.progress()["items"], rating.progress()["rated"]) == (60, 10)


def test_the_skipped_come_again_when_nothing_is_open(db: Path) -> None:
    draw_sample(db, "SMALL", Selection(method="urial"), per_cell=3, seed=1)
    with open_rating(db, "SMALL", "ana") as rating:
        for number in (0, 1):
            rating.skip({"id": rating.item(number)["id"]})
        assert rate(rating, 2)["next"] == 0
        assert rating.skip({"id": rating.item(0)["id"]})["next"] == 1
        assert rate(rating, 1)["next"] == 0
        assert rate(rating, 0)["next"] is None


def test_a_rater_has_one_page_and_a_name_and_a_sample_that_exist(made: Path) -> None:
    other_page = pytest.raises(JudgeError, match=r"ana rates .* on another page")
    with (
        open_rating(made, "PILOT", "ana"),
        open_rating(made, "PILOT", "ben"),
        other_page,
        open_rating(made, "PILOT", "ana"),
    ):
        pass
    for rater in ("", "ana maria", "x" * 33, "a/b"):
        with pytest.raises(ConfigError, match="cannot be a rater"), open_rating(made, "PILOT", rater):
            pass
    with pytest.raises(UnknownName, match="did you mean PILOT"), open_rating(made, "PILOTT", "ana"):
        pass


def test_tables_of_the_paper_pass_over_people_unless_one_is_named(db: Path) -> None:
    with open_rating(db, "PILOT", "ana") as rating:
        for number in range(20):
            rate(rating, number)
    assert store.query(db, "select distinct judge from paper_scores where origin = 'ours'").rows == [("openai:few",)]
    with store.reader(db) as con:
        con.execute("set variable icl_judge = 'human:ana'")
        assert con.execute("select count(*) from paper_scores where origin = 'ours'").fetchall() > [(0,)]


# The server


@contextmanager
def served(db: Path) -> Iterator[tuple[Rating, PageServer]]:
    with open_rating(db, "PILOT", "ana") as rating, rating_page(rating) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield rating, server
        server.shutdown()
        thread.join()


def ask(server: PageServer, path: str, posted: object = None, **headers: str | None) -> tuple[int, str]:
    """Return status and text; ``headers`` of None are left out."""
    body = posted if isinstance(posted, str) else None if posted is None else json.dumps(posted)
    sent = {"Host": server.host, "Origin": f"http://{server.host}" if body else None, **headers}
    client = http.client.HTTPConnection("127.0.0.1", server.server_port)
    client.request("POST" if body else "GET", path, body, {name: text for name, text in sent.items() if text})
    reply = client.getresponse()
    found = reply.status, reply.read().decode()
    client.close()
    return found


def test_no_byte_of_the_page_names_a_model_method_type_finish_reason_or_score(made: Path) -> None:
    with served(made) as (rating, server):
        at = f"/{server.token}/"
        pages = [ask(server, at), ask(server, f"{at}progress")]
        pages += [ask(server, f"{at}item/{number}") for number in range(len(rating.items))]
        assert {status for status, _ in pages} == {200}
        found = "".join(text for _, text in pages)
        assert "Helpfulness: " not in found
        assert "helpfulness" in found
        assert not [secret for secret in (*SECRETS, "zero-shot", "urial", "dpo", "f.gguf") if secret in found]
        for route in ("index/1", "texts/1/0", "live", "tables", "responses", "../", "item/0/../../live"):
            status, text = ask(server, at + route)
            assert (status, text) in ((403, '{"error": "not allowed"}'), (400, '{"error": "item -1 does not exist"}'))


def test_a_request_from_elsewhere_is_refused_and_stores_nothing(made: Path) -> None:
    with served(made) as (rating, server):
        verdict = {"id": rating.item(0)["id"], "scores": GOOD}
        for token, headers in (
            ("x" * 32, {}),
            (server.token, {"Host": f"evil.example:{server.server_port}"}),
            (server.token, {"Host": f"localhost:{server.server_port}"}),
            (server.token, {"Origin": "http://evil.example"}),
        ):
            assert ask(server, f"/{token}/save", verdict, **headers)[0] == 403
            assert ask(server, f"/{token}/item/0", **headers)[0] == 403
        assert ask(server, f"/{server.token}/save", verdict, Origin=None)[0] == 403
        assert rating.progress()["rated"] == 0
    assert labels(made) == []


def test_a_verdict_that_is_none_is_refused_and_stores_nothing(made: Path) -> None:
    with served(made) as (rating, server):
        known = rating.item(0)["id"]
        lacking = dict.fromkeys(ASPECTS[1:], 4)
        for wrong in (
            {"id": known, "scores": {**GOOD, "depth": 6}},
            {"id": known, "scores": {**GOOD, "depth": 0}},
            {"id": known, "scores": {**GOOD, "depth": 4.5}},
            {"id": known, "scores": {**GOOD, "depth": True}},
            {"id": known, "scores": {**GOOD, "depth": "4"}},
            {"id": known, "scores": {**GOOD, "safety": 4}},
            {"id": known, "scores": lacking},
            {"id": known, "scores": [4] * 5},
            {"id": known},
            {"id": known, "scores": GOOD, "comments": {"depth": "x" * 2_001}},
            {"id": "foreign", "scores": GOOD},
            {"scores": GOOD},
            [],
            "not json",
            "[" * 100_000,
        ):
            status, text = ask(server, f"/{server.token}/save", wrong)
            assert status == 400
            assert json.loads(text)["error"]
        assert ask(server, f"/{server.token}/undo", {})[0] == 400
    assert labels(made) == []
