"""Methods with parameters: their names, the examples that they choose, and what is wrong with them."""

from __future__ import annotations

import itertools
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_local import resources
from icl_local.exceptions import ConfigError, InputError, MissingExtra, UnknownName
from icl_local.prompting import Pools, Query, QuerySet, Recipe, expand, language_spec, load_file
from icl_local.prompting.examples import cut, permuted
from icl_local.prompting.prompt import Prompt
from icl_local.running import CellPlan, Decoding, load_pools, load_queries, plan_cells

IDS = Path(__file__).parents[1] / "data" / "ids_of_plain_methods.json"
TOPICS = ("rivers", "planets", "bread", "chess", "violins", "volcanoes")


def names(text: str, language: str = "es", **more: object) -> list[str]:
    return [recipe.method.name for recipe in expand([text], language, **more)]  # type: ignore[arg-type]


def prompt(name: str, text: str = "Hi?", language: str = "en", pools: Pools | None = None) -> Prompt:
    recipe = Recipe(name, language, pools=pools)
    return recipe.prompt(Query("set", "1", language, text, "multi"))


@pytest.fixture
def pools(tmp_path: Path) -> dict[str, QuerySet]:
    file = tmp_path / "mine.jsonl"
    items = [
        {"id": n, "instruction": f"{ask} {topic}?", "output": f"{topic.title()}.", "language": language}
        for language, ask in (("en", "Tell me about"), ("es", "Háblame de"))
        for n, topic in enumerate(TOPICS)
    ]
    file.write_text("".join(json.dumps(item) + "\n" for item in items))
    return load_pools([f"mine={file}"])


def test_plain_names_keep_the_ids_that_they_had_before_methods_had_parameters() -> None:
    stored = json.loads(IDS.read_text())
    sets = load_queries(["en", "es", "eu", "fr"], ["samples"], limit=2)
    found = {}
    for cell in plan_cells(["smollm2-135m"], ["zero-shot", "urial[k=3]", "instruct"], sets):
        plan = CellPlan(cell, Decoding())
        prompts = sorted({prompt.prompt_id for _, prompt in plan.by_key.values()})
        found[f"{cell.method.name} {cell.language}"] = [plan.cell_row["cell_id"], *prompts, *plan.by_key]
    assert found == stored


@pytest.mark.parametrize("language", ["en", "es", "eu", "fr"])
def test_a_prefix_is_cut_and_joined_byte_for_byte(language: str) -> None:
    text = resources.read_text("prompts", f"urial.{language}.txt")
    prefix = cut(text, language_spec(language), "urial")
    assert "".join(prefix.parts(prefix.examples, end=prefix.gaps[-1])) == text
    assert [one.id for one in prefix.examples] == ["1", "2", "3"]
    assert all(one.instruction in one.text and "`" not in one.instruction for one in prefix.examples)


def test_a_users_language_is_cut_too(tmp_path: Path) -> None:
    (tmp_path / "languages").mkdir()
    (tmp_path / "languages" / "pt.toml").write_text(
        'name = "Portuguese"\nown_name = "português"\nquery_heading = "# Pergunta:"\nanswer_heading = "# Resposta:"\n'
        'stops = ["# Pergunta"]\n'
    )
    block = "# Pergunta:\n```{}?```\n\n# Resposta:\n```\n{}!\n```\n\n\n"
    (tmp_path / "urial.pt.txt").write_text("# Instrução\n\n" + block.format("A", "a") + block.format("B", "b"))
    recipe = Recipe("urial[k=1]", "pt", overlay=tmp_path)
    assert recipe.prompt(Query("set", "1", "pt", "C?", "multi")).text == (
        "# Instrução\n\n"
        "# Pergunta:\n```B?```\n\n# Resposta:\n```\nb!\n```\n\n"
        "# Pergunta:\n```C?```\n\n# Resposta:\n```\n"
    )


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ("urial[k=3]", ["urial"]),
        ("urial[order=0,lang=es,own=no,instruction=es]", ["urial"]),
        ("urial[ lang = en , k=1 ]", ["urial[k=1,lang=en]"]),
        ("urial[instruction=en,lang=en]", ["urial[lang=en]"]),
        ("urial[k=0..2]", ["urial[k=0]", "urial[k=1]", "urial[k=2]"]),
        ("urial[k=1|3,lang=en|es]", ["urial[k=1,lang=en]", "urial[k=1]", "urial[lang=en]", "urial"]),
        ("urial[k=2,order=*]", ["urial[k=2]", "urial[k=2,order=1]"]),
        ("urial[k=3,seed=1]", ["urial[k=3,seed=1]"]),
        ("zero-shot[lang=en]", ["zero-shot[lang=en]"]),
        ("zero-shot[k=0]", ["zero-shot"]),
    ],
)
def test_a_name_leaves_out_what_counts_anyway_and_is_read_as_itself(given: str, canonical: list[str]) -> None:
    assert names(given) == canonical
    assert [name for one in canonical for name in names(one)] == canonical


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.fixed_dictionaries({}, optional={
        "k": st.integers(0, 3), "order": st.integers(0, 5), "seed": st.integers(1, 3),
        "lang": st.sampled_from(["en", "es", "fr"]), "instruction": st.sampled_from(["none", "es", "eu"]),
    })
)  # fmt: skip
def test_the_shortest_name_makes_the_same_prompt(parameters: dict[str, object]) -> None:
    given_name = f"urial[{','.join(f'{key}={value}' for key, value in parameters.items())}]" if parameters else "urial"
    try:
        (shortest,) = names(given_name)
    except ConfigError:
        return
    assert names(shortest) == [shortest]
    assert len(shortest) <= len(given_name)
    a, b = prompt(given_name, language="es"), prompt(shortest, language="es")
    assert (a.text, a.stops, a.examples, a.method) == (b.text, b.stops, b.examples, shortest)


def test_the_last_k_examples_stay() -> None:
    assert [prompt(f"urial[k={k}]").text.count("\n# Query:") for k in range(4)] == [1, 2, 3, 4]
    assert [prompt(f"urial[k={k}]").examples for k in range(4)] == [(), ("3",), ("2", "3"), ("1", "2", "3")]
    assert prompt("urial[k=0]").text.startswith("# Instruction\n")
    assert prompt("urial[k=1,instruction=none]").text.startswith("# Query:\n")


def test_every_order_is_one_text_and_each_example_stays_as_it_is() -> None:
    found = [prompt(name) for name in names("urial[order=*]", "en")]
    assert [one.examples for one in found] == list(itertools.permutations("123"))
    assert len({one.text for one in found}) == len({one.prompt_id for one in found}) == 6
    assert len({"".join(sorted(one.text)) for one in found}) == 1


def test_every_order_is_a_cell_with_its_own_responses() -> None:
    cells = plan_cells(["smollm2-135m"], ["urial[order=*]"], load_queries(["en"], ["samples"], limit=2))
    plans = [CellPlan(cell, Decoding()) for cell in cells]
    assert len({plan.cell_row["cell_id"] for plan in plans}) == 6
    assert len({key for plan in plans for key in plan.keys}) == 6 * 2


@pytest.mark.parametrize("n", [1, 2, 4])
def test_orders_are_the_permutations_in_lexicographic_order(n: int) -> None:
    every = list(itertools.permutations(range(n)))
    assert [tuple(permuted(range(n), order)) for order in range(len(every))] == every


def test_english_examples_serve_spanish_queries_with_the_stops_of_both() -> None:
    mixed, english = prompt("urial[lang=en]", language="es"), prompt("urial")
    assert (mixed.text, mixed.language) == (english.text, "es")
    assert mixed.stops == ("# Query", "#Query", "# Consulta", "#Consulta")
    translated = prompt("urial[instruction=fr]").text
    assert translated.startswith(resources.read_text("prompts", "urial.fr.txt").split("\n\n# Question")[0])
    assert translated.endswith(english.text[english.text.index("\n\n# Query:") :])


class TestPools:
    def test_a_pools_examples_stand_in_the_query_block_of_their_language(self, pools: Pools) -> None:
        found = prompt("urial[pool=mine,k=1]", language="es", pools=pools)
        block = "# Consulta:\n```Háblame de volcanoes?```\n\n# Respuesta:\n```\nVolcanoes.\n```\n\n# Consulta:\n```Hi?"
        assert block in found.text
        assert found.examples == ("5",)
        own = prompt("urial[pool=mine,k=1,own=yes]", pools=pools)
        assert own.examples == ("1", "2", "3", "5")
        assert own.text.startswith(prompt("urial").text.removesuffix("# Query:\n```Hi?```\n\n# Answer:\n```\n"))

    def test_a_pool_may_be_called_by_a_number(self, pools: Pools) -> None:
        assert prompt("urial[pool=5,own=true,k=1]", pools={"5": pools["mine"]}).method == "urial[k=1,pool=5,own=yes]"

    def test_an_output_that_ends_in_line_breaks_is_one_blank_line_before_the_next_block(self, tmp_path: Path) -> None:
        (tmp_path / "query_block.txt").write_text("Q: {query}\nA: ")
        file = tmp_path / "pool.jsonl"
        items = [{"id": n, "instruction": f"{n}?", "output": f"{n}.\n\n\n", "language": "en"} for n in (1, 2)]
        file.write_text("\n".join(map(json.dumps, items)))
        recipe = Recipe("zero-shot[pool=p,k=2]", "en", overlay=tmp_path, pools=load_pools([f"p={file}"]))
        query = Query("set", "1", "en", "Hi?", "multi")
        text = "Q: 1?\nA: 1.\n\n\n\n\nQ: 2?\nA: 2.\n\nQ: Hi?\nA: "
        assert recipe.prompt(query).text == text
        assert "".join(part for _, part in recipe.parts(query)) == text

    def test_a_prefix_without_any_text_left_is_a_blank_line(self, pools: Pools, tmp_path: Path) -> None:
        (tmp_path / "urial.en.txt").write_text("# Query:\n```A?```\n\n# Answer:\n```\nB.\n```\n\n\n")
        one = {"p": replace(pools["mine"], queries=pools["mine"].queries[:1])}
        own = Query("set", "1", "en", one["p"].queries[0].instruction, "multi")
        for recipe in (
            Recipe("urial[k=0]", "en", overlay=tmp_path),
            Recipe("urial[pool=p,k=1,instruction=none]", "en", pools=one),
        ):
            text = f"\n\n# Query:\n```{own.instruction}```\n\n# Answer:\n```\n"
            assert recipe.prompt(own).text == text
            assert "".join(part for _, part in recipe.parts(own)) == text
        assert prompt("zero-shot[pool=p,k=1]", own.instruction, pools=one).text == text.lstrip("\n")

    def test_seeds_nest_and_keep_the_pools_order(self, pools: Pools) -> None:
        chosen = {
            (seed, k): prompt(f"urial[pool=mine,k={k},seed={seed}]", pools=pools).examples
            for seed in (1, 2, 3)
            for k in (1, 2, 3)
        }
        for (seed, k), ids in chosen.items():
            assert ids is not None
            assert list(ids) == sorted(ids)
            assert k == 1 or set(chosen[seed, k - 1] or ()) < set(ids)
        assert len({chosen[seed, 3] for seed in (1, 2, 3)}) > 1

    def test_a_seed_draws_the_same_ids_in_every_language(self, pools: Pools) -> None:
        name = "urial[pool=mine,k=2,seed=1]"
        assert prompt(name, pools=pools).examples == prompt(name, language="es", pools=pools).examples

    @pytest.mark.parametrize("rule", ["k=3,seed=1", "k=6", "k=2,retrieve=bm25"])
    def test_a_query_in_the_pool_never_sees_itself(self, pools: Pools, rule: str) -> None:
        for n, topic in enumerate(TOPICS):
            found = prompt(f"urial[pool=mine,{rule}]", f" tell  me ABOUT {topic}?", pools=pools)
            assert str(n) not in (found.examples or ())
            assert "Tell me about" in found.head

    def test_the_nearest_example_is_the_last(self, pools: Pools) -> None:
        found = prompt("urial[pool=mine,k=2,retrieve=bm25]", "Do violins or planets sing? Violins!", pools=pools)
        assert found.examples == ("1", "4")
        assert prompt("urial[pool=mine,k=2,retrieve=bm25]", "?", pools=pools).examples == ("1", "0")

    def test_prompts_with_other_examples_are_one_cell(self, pools: Pools) -> None:
        recipe = Recipe("urial[pool=mine,k=1,retrieve=bm25]", "en", pools=pools)
        a, b = (recipe.prompt(Query("set", text, "en", text, "multi")) for text in ("violins", "bread"))
        assert a.examples != b.examples
        assert recipe.key(a) == recipe.key(b) != Recipe("urial", "en").key(a)
        row = recipe.row(recipe.key(a))
        assert str(row["retriever"]).startswith("bm25 (bm25s ")
        assert (row["base_method"], row["k"], row["pool"], row["example_language"]) == ("urial", 1, "mine", "en")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("urial[kk=1]", r"urial\[kk=1\]: unknown key 'kk' \(did you mean k\?\); there are k, order, seed, lang, "),
        ("urial[k]", r"write NAME\[KEY=VALUE,\.\.\.\], each key once"),
        ("urial[k=1,k=2]", "each key once"),
        ("urial[k=1", "write NAME"),
        ("urial[k=x]", r"urial\[k=x\]: k must be a whole number, not 'x'"),
        ("urial[k=4]", "k is 4, but urial has 3 examples in 'es'"),
        ("urial[k=1000000000]", "k is 1000000000, but urial has 3 examples in 'es'"),
        ("urial[k=2..1]", r"2\.\.1 is not a range of 1 to 64 values"),
        ("urial[seed=1..900,k=1]", r"1\.\.900 is not a range of 1 to 64 values"),
        ("urial[order=*,seed=1..20,k=3]", "stands for more than 64 methods"),
        ("urial[k=2,order=2]", "order is 2, but 2 examples can be ordered in 2! ways"),
        ("urial[seed=1]", "seed and retrieve choose k examples; give k"),
        ("urial[k=1,seed=0]", "seeds begin at 1"),
        ("urial[retrieve=bm25]", "give k"),
        ("urial[k=1,retrieve=tfidf]", "retrieve is 'tfidf'; write bm25"),
        ("urial[k=1,retrieve=bm25,seed=1]", "leave seed and order out"),
        ("urial[k=0,instruction=none]", "write zero-shot"),
        ("urial[own=yes,k=1]", "give a pool"),
        ("urial[own=maybe,k=1]", "own must be true or false, not 'maybe'"),
        ("zero-shot[k=1]", "k is 1, but zero-shot has 0 examples"),
        ("zero-shot[instruction=en]", "zero-shot has no instruction text"),
        ("instruct[k=1]", "instruct is a chat method, which has no parameters; write instruct"),
    ],
)
def test_parameters_that_cannot_be_are_one_line(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        expand([name], "es")


def test_retrieval_without_its_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bm25s", None)
    with pytest.raises(MissingExtra, match=r"bm25s is not installed; run: pip install 'icl-local\[retrieval\]'"):
        expand(["urial[k=1,retrieve=bm25]"], "en")


def test_names_that_are_not_known_list_those_that_are(pools: Pools) -> None:
    with pytest.raises(UnknownName, match=r"no pool 'your'; there is mine; give it with --pool your=FILE"):
        expand(["urial[pool=your,k=1]"], "es", pools=pools)
    with pytest.raises(UnknownName, match="no language 'xx'"):
        expand(["urial[lang=xx]"], "es")
    with pytest.raises(InputError, match=r"mine\.jsonl: the pool has no examples in 'fr'"):
        expand(["urial[pool=mine,k=1]"], "fr", pools=pools)


def test_a_pool_without_outputs_or_with_an_id_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text('{"id": 1, "instruction": "a"}\n')
    with pytest.raises(InputError, match=r"p\.jsonl: the example '1' has no text `output`"):
        load_pools([f"p={file}"])
    file.write_text('{"id": 1, "instruction": "a", "output": "b"}\n' * 2)
    with pytest.raises(InputError, match=r"p\.jsonl:2: id '1' is already at .*p\.jsonl:1"):
        load_pools([f"p={file}"])
    for source in ("p", f"p/q={file}", "=x"):
        with pytest.raises(ConfigError, match="write NAME=FILE"):
            load_pools([source])


def test_a_prefix_that_cannot_be_cut_is_named_with_its_line_and_serves_without_parameters(tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "few.toml").write_text('kind = "completion"\ndescription = "few"\nprefix = "few.txt"\n')
    (tmp_path / "few.txt").write_text("Q: 1+1?\nA: 2\n")
    with pytest.raises(InputError, match=r"few\.txt:1: no line begins with '# Query:'"):
        expand(["few[k=1]"], "en", overlay=tmp_path)
    assert names("few", "en", overlay=tmp_path) == ["few"]
    (tmp_path / "few.txt").write_text("Do.\n\n# Query:\n2+2?\n4\n")
    with pytest.raises(InputError, match=r"few\.txt:3: an example without '# Answer:'"):
        expand(["few[k=1]"], "en", overlay=tmp_path)


def test_a_methods_own_file_may_set_parameters(tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    text = 'kind = "completion"\ndescription = "two"\nprefix = "urial.{language}.txt"\nk = 2\n'
    (tmp_path / "methods" / "two.toml").write_text(text)
    assert names("two[k=1..3]", overlay=tmp_path) == ["two[k=1]", "two", "two[k=3]"]
    assert Recipe("two", "es", overlay=tmp_path).k == 2


def test_a_table_is_a_pool(tmp_path: Path) -> None:
    file = tmp_path / "pool.csv"
    file.write_text("instruction,output\nWhy?,Because.\n")
    assert prompt("zero-shot[pool=p,k=1]", pools={"p": load_file(file, untagged="en")}).text == (
        "# Query:\n```Why?```\n\n# Answer:\n```\nBecause.\n```\n\n# Query:\n```Hi?```\n\n# Answer:\n```\n"
    )
