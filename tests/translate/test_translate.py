"""icl translate run: the three engines, what is stored of a candidate, and resuming after a kill."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from icl_local import store
from icl_local.cli import icl
from icl_local.engine.protocol import EngineOptions
from icl_local.exceptions import ApiError, ConfigError, InputError, TranslationError, UnknownName
from icl_local.openai_client import ApiClient, ApiReply
from icl_local.openai_client.prices import Budget
from icl_local.prompting import queries
from icl_local.running import LocalChat
from icl_local.store import spool
from icl_local.store.database import query
from icl_local.translate.llm import ChatEngine, clean_reply, translation_prompt
from icl_local.translate.opus import OpusEngine
from icl_local.translate.translate import TranslateProgress, open_engine, translate_missing
from icl_local.weights import registry
from tests import acknowledging
from tests.faulty_server import FaultyServer
from tests.tiny_marian import build_tiny_marian


@dataclass
class Fake:
    """An engine with fixed replies that counts the texts it gets."""

    replies: dict[str, str] = field(default_factory=dict)
    fail: frozenset[str] = frozenset()
    stop_after: int | None = None
    version: int = 1
    name: str = "fake"
    asked: list[str] = field(default_factory=list)

    @property
    def settings(self) -> dict[str, object]:
        return {"version": self.version}

    def translate(self, texts: Mapping[str, str]) -> Iterator[list[ApiReply]]:
        for done, (key, source) in enumerate(texts.items()):
            if done == self.stop_after:
                raise ApiError("no quota left")
            self.asked.append(source)
            text = self.replies.get(source, f"Texto en español de esto: {len(source)}")
            outcome = "failed" if source in self.fail else "reply"
            yield [ApiReply(key, 1, outcome, text=text, finish_reason="stop")]


def samples() -> tuple[queries.Query, ...]:
    return queries.samples("en").queries


def stored(db: Path, columns: str = "query_id, text") -> list[Any]:
    return query(db, f"select {columns} from raw.translations order by query_id, language").rows


# ------------------------------------------------------------------------------------------- rows and resuming


def test_every_candidate_is_a_row_with_its_source_its_settings_and_what_the_checks_found(tmp_path: Path) -> None:
    db, sources = tmp_path / "t.duckdb", samples()
    seen: list[TranslateProgress] = []
    progress = translate_missing(db, Fake(), sources, language="es", on_progress=seen.append)
    assert (progress.requested, progress.made, progress.before, progress.failed) == (12, 12, 0, 0)
    assert [one.made for one in seen] == list(range(13))
    rows = query(db, "from translation_candidates order by query_id")
    first = dict(zip(rows.columns, rows.rows[0], strict=True))
    assert (first["dataset"], first["query_id"], first["language"], first["engine"]) == (
        "samples",
        "sample-01",
        "es",
        "fake",
    )
    assert first["source_text"] == sources[0].instruction
    assert (first["question_lost"], first["numbers_changed"], first["answered"]) == (True, True, True)
    assert {"question_lost", "numbers_changed"} <= set(first["flags"])
    assert json.loads(first["source_fields"])["topic"] == ["lifestyle"]


def test_what_is_there_is_kept_and_what_failed_or_was_never_asked_is_made(tmp_path: Path) -> None:
    db, sources = tmp_path / "t.duckdb", samples()
    with pytest.raises(ApiError):
        translate_missing(db, Fake(stop_after=5), sources, language="es")
    assert len(stored(db)) == 5
    failing = Fake(fail=frozenset({sources[7].instruction}))
    progress = translate_missing(db, failing, sources, language="es")
    assert (progress.before, progress.made, progress.failed) == (5, 6, 1)
    last = Fake()
    assert translate_missing(db, last, sources, language="es").made == 1
    assert last.asked == [sources[7].instruction]
    assert translate_missing(db, Fake(), sources, language="es").made == 0
    assert len(stored(db)) == 12


def test_other_settings_another_language_or_another_source_text_make_other_candidates(tmp_path: Path) -> None:
    db, (source, *_) = tmp_path / "t.duckdb", samples()
    changed = replace(source, instruction="Why, then?")
    for engine, one, language in (
        (Fake(), source, "es"), (Fake(version=2), source, "es"), (Fake(), source, "fr"), (Fake(), changed, "es"),
    ):  # fmt: skip
        assert translate_missing(db, engine, [one], language=language).made == 1
    counted = "select language, current_source, count(*) from translation_candidates group by all order by all"
    assert query(db, counted).rows == [("es", False, 2), ("es", True, 1), ("fr", True, 1)]


def test_queries_are_not_translated_into_their_own_language(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="in 'en' already"):
        translate_missing(tmp_path / "t.duckdb", Fake(), samples(), language="en")


def spooled(db: Path) -> list[str]:
    """Keys of the candidates that the spool has whole."""
    folder = store.spool_folder(db)
    lines = [line for file in spool.files(folder) for line in spool.lines(file, 0)]
    return [str(r.row["translation_id"]) for line in lines for r in line.records if r.table == "translations"]


def test_a_killed_run_loses_no_candidate_and_makes_none_twice(tmp_path: Path) -> None:
    db = tmp_path / "t.duckdb"
    with FaultyServer(latency=0.05) as server:
        environment = {**os.environ, "OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "none", "ICL_DB": str(db)}
        arguments = ["translate", "run", "--to", "es,fr", "--engine", "openai:faulty-1", "--queries", "samples"]
        arguments += ["--concurrency", "1"]
        before: list[Any] = []
        for more in (2, 6):
            with acknowledging.start(*arguments, environment=environment) as process:
                acknowledging.wait_for(process, "translations", more)
                acknowledged = spooled(db)
                process.send_signal(signal.SIGKILL)
            assert len(acknowledged) >= len(before) + more
            rows = stored(db, "translation_id")
            assert {*before, *acknowledged} <= {key for (key,) in rows}
            before = [key for (key,) in rows]
        assert 0 < len(before) < 24
        assert CliRunner().invoke(icl, arguments, env=environment).exit_code == 0
        assert query(db, "select count(*), count(distinct (query_id, language)) from raw.translations").rows == [
            (24, 24)
        ]
        assert server.actions["ok"] <= 24 + 2  # only what was under way at a kill was asked again
        assert CliRunner().invoke(icl, arguments, env=environment).exit_code == 0
        assert server.actions["ok"] <= 24 + 2


# -------------------------------------------------------------------------------------------------------- opus


@pytest.fixture(scope="module")
def marian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_marian(tmp_path_factory.mktemp("opus") / "opus-mt-en-es")


def test_opus_keeps_code_lists_and_placeholders_and_is_stored(marian: Path, tmp_path: Path) -> None:
    text = "Fix this for {name}:\n\n```\nx = [1]\n```\n- first, see https://example.org\n- second " + "and so on " * 60
    source = queries.Query("d", "1", "en", text, "multi")
    engine = open_engine(
        f"opus:{marian.parent}/opus-mt-{{source}}-{{target}}",
        source="en",
        target="es",
        options=EngineOptions(threads=1),
    )
    db = tmp_path / "t.duckdb"
    assert translate_missing(db, engine, [source], language="es").made == 1
    ((translated, name, settings),) = stored(db, "text, engine, engine_settings")
    assert name == "opus:opus-mt-en-es"
    assert json.loads(settings)["beams"] == 4
    assert translated != text
    for kept in ("{name}", "\n\n```\nx = [1]\n```\n- ", "https://example.org", "\n- "):
        assert translated.count(kept) == text.count(kept)


def test_opus_gives_the_same_text_again_and_names_its_weights(marian: Path) -> None:
    jobs = {"a": "How do vaccines work? Be brief.", "b": "Write a poem."}

    def texts() -> list[str]:
        engine = OpusEngine(str(marian), source="en", target="es", threads=1)
        return [output.text for some in engine.translate(jobs) for output in some]

    assert texts() == texts()
    assert OpusEngine(str(marian), source="en", target="es").settings["weights"]


def test_a_model_of_several_targets_needs_one_that_it_has(tmp_path: Path) -> None:
    folder = build_tiny_marian(tmp_path / "many", codes=("por", "spa"))
    with pytest.raises(ConfigError, match=r"translates into por, spa; .*#por"):
        list(OpusEngine(str(folder), source="en", target="pt").translate({"a": "Hello there."}))
    engine = OpusEngine(f"{folder}#por", source="en", target="pt", threads=1)
    assert next(engine.translate({"a": "Hello there."}))[0].id == "a"
    assert engine.settings["target_code"] == "por"


def test_a_folder_without_a_marian_model_is_reported_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(TranslationError, match=r"holds no model\.safetensors"):
        OpusEngine(str(tmp_path), source="en", target="es")
    with pytest.raises(ConfigError, match="neither a folder nor an owner/name"):
        OpusEngine("nowhere", source="en", target="es")
    for name in ("pytorch_model.bin", "source.spm", "target.spm", "vocab.json"):
        (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(TranslationError, match="can be loaded"):
        list(OpusEngine(str(tmp_path), source="en", target="es").translate({"a": "x"}))


# ----------------------------------------------------------------------------------------- models that are asked


def api_engine(server: FaultyServer, **options: Any) -> ChatEngine:
    prompt = translation_prompt(source="en", target="es")
    return ChatEngine(ApiClient("faulty-1", base_url=server.url, backoff=0.01, **options), prompt)


def test_an_openai_compatible_server_translates_and_a_refusal_is_a_flagged_candidate(tmp_path: Path) -> None:
    db, sources = tmp_path / "t.duckdb", samples()[:4]
    with FaultyServer(script=["ok", "refusal", "400_policy", "truncated"]) as server:
        assert translate_missing(db, api_engine(server, concurrency=1), sources, language="es").made == 4
        asked = server.bodies[0]["messages"][0]["content"]
    assert "from English into Spanish" in asked
    assert f"<text>\n{sources[0].instruction}\n</text>" in asked
    found = stored(db, "query_id, finish_reason, error is not null, (checks -> '$.flags')::varchar[]")
    assert [row[:3] for row in found] == [
        ("sample-01", "stop", False),
        ("sample-02", "refused", False),
        ("sample-03", "rejected", True),
        ("sample-04", "length", False),
    ]
    assert "length_odd" in found[0][3]  # this server answers with the end of what it was asked
    assert "refused" in found[1][3]
    assert found[2][3] == ["empty"]
    assert "truncated" in found[3][3]


def test_what_fails_on_the_way_is_not_stored(tmp_path: Path) -> None:
    db = tmp_path / "t.duckdb"
    with FaultyServer(mix={"500": 1.0}) as server:
        progress = translate_missing(db, api_engine(server, max_attempts=2), samples()[:2], language="es")
        assert (progress.made, progress.failed) == (0, 2)
        server.settings.mix = {"ok": 1.0}
        assert translate_missing(db, api_engine(server), samples()[:2], language="es").made == 2


def test_the_local_engine_translates_on_a_real_model(embedded_model: Path, tmp_path: Path) -> None:
    model = registry.resolve(str(embedded_model), method_kind="chat")
    prompt = translation_prompt(source="en", target="es")
    engine = ChatEngine(LocalChat(model, options=EngineOptions(parallel=2, threads=1)), prompt)
    source = queries.Query("d", "1", "en", "Good morning!", "multi")
    db = tmp_path / "t.duckdb"
    assert translate_missing(db, engine, [source], language="es").made == 1
    ((text, name, tokens),) = stored(db, "text, engine, completion_tokens")
    assert text
    assert tokens > 0
    assert name == f"local:{embedded_model.name}"


def test_a_users_prompt_comes_first_and_makes_other_candidates(tmp_path: Path) -> None:
    built_in = translation_prompt(source="en", target="es")
    (tmp_path / "translate.es.txt").write_text("${source_language} > ${language}: ${text}")
    own = translation_prompt(source="en", target="es", overlay=tmp_path)
    assert own == "English > Spanish: ${text}"
    with FaultyServer() as server:
        list(ChatEngine(ApiClient("faulty-1", base_url=server.url), own).translate({"id": "a ${language} b"}))
        assert server.bodies[0]["messages"][0]["content"] == "English > Spanish: a ${language} b"
    assert own != built_in
    assert translation_prompt(source="en", target="fr", overlay=tmp_path) == built_in.replace("Spanish", "French")
    (tmp_path / "translate.es.txt").write_text("nothing")
    with pytest.raises(InputError, match=r"translate\.es\.txt: has no"):
        translation_prompt(source="en", target="es", overlay=tmp_path)


@pytest.mark.parametrize(
    "reply,source,text",
    [
        ("  Hola.\n", "Hello.", "Hola."),
        ("<text>\nHola.\n</text>", "Hello.", "Hola."),
        ("```\nHola.\n```", "Hello.", "Hola."),
        ("```\nx\n```", "```\nx\n```", "```\nx\n```"),
        ("«Hola»", "Hello", "Hola"),
        ('"Hola"', '"Hello"', '"Hola"'),
        ('"A" y "B"', "A and B", '"A" y "B"'),
    ],
)
def test_what_a_model_wraps_around_a_translation_goes(reply: str, source: str, text: str) -> None:
    assert clean_reply(reply, source) == text


def test_engines_are_named_or_refused() -> None:
    with pytest.raises(ConfigError, match="--engine cannot be 'google'; write openai:MODEL"):
        open_engine("google", source="en", target="es", options=EngineOptions())
    with pytest.raises(UnknownName, match=r"languages/xx\.toml"):
        open_engine("openai:m", source="en", target="xx", options=EngineOptions())
    with FaultyServer() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_BASE_URL", server.url)
        with pytest.raises(ConfigError, match="no price is stated"):
            open_engine("openai:m", source="en", target="es", options=EngineOptions(), budget=Budget(1.0))
