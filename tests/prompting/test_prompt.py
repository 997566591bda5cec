"""Prompts from data files, and answers cut out of raw text."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Any

import pytest

from icl_local import prompting
from icl_local.exceptions import InputError, ModelError, UnknownName
from icl_local.judging.template import Templates
from icl_local.prompting.prompt import CHAT, COMPLETION, Prompt, Recipe
from icl_local.prompting.queries import Query, samples
from icl_local.translate.llm import translation_prompt
from icl_local.weights.gguf_file import GgufInfo, read_info
from tests.tiny_model import LLAMA_CHAT_TEMPLATE

ENGLISH = ("# Query", "#Query")
HARD_QUERIES = [
    "What is 2+2?",
    "  outer space \n",
    "a ```fence``` inside",
    "{query} {{ messages }} {query_heading}",
    "ä\u2028\n\n",
]


def ask(text: str, language: str = "en") -> Query:
    return Query("d", "1", language, text, "multi")


def changed(info: GgufInfo, **facts: object) -> GgufInfo:
    made = copy.copy(info)
    vars(made).update(facts)
    return made


def build(
    text: str = "Hi?", method: str = "zero-shot", language: str = "en", overlay: Path | None = None, **more: Any
) -> Prompt:
    return Recipe(method, language, overlay=overlay).prompt(ask(text, language), **more)


@pytest.fixture(scope="module")
def chat_model(tiny_gguf: Path) -> GgufInfo:
    """A header whose template tests replace."""
    return read_info(tiny_gguf)


class TestCompletionPrompts:
    def test_zero_shot_is_the_query_block_alone(self) -> None:
        assert build("Why?").text == "# Query:\n```Why?```\n\n# Answer:\n```\n"
        assert build("¿Por qué?", language="es").text == "# Consulta:\n```¿Por qué?```\n\n# Respuesta:\n```\n"
        assert build("Pourquoi ?", language="fr").text == "# Question :\n```Pourquoi ?```\n\n# Réponse :\n```\n"

    @pytest.mark.parametrize(
        ("language", "stops"),
        [
            ("en", ("# Query", "#Query")),
            ("es", ("# Consulta", "#Consulta")),
            ("eu", ("# Galdera", "#Galdera")),
            ("fr", ("# Question", "#Question")),
        ],
    )
    def test_stops_are_the_next_query_heading(self, language: str, stops: tuple[str, ...]) -> None:
        for method in ("zero-shot", "urial"):
            prompt = build(method=method, language=language)
            assert prompt.stops == stops
            assert prompt.text.count(f"\n{stops[0]}") == (4 if method == "urial" else 0)

    @pytest.mark.parametrize("language", ["en", "es", "eu", "fr"])
    def test_urial_is_the_prefix_a_blank_line_and_the_query_block(self, language: str) -> None:
        prefix = Path(prompting.__file__).parents[2] / "prompts" / f"urial.{language}.txt"
        text = build("Why?", method="urial", language=language).text
        assert text == prefix.read_text(encoding="utf-8") + "\n" + build("Why?", language=language).text
        assert text.count("```") % 2 == 1

    @pytest.mark.parametrize("language", ["en", "es", "fr"])
    def test_prefixes_are_the_studys_byte_for_byte(self, shared_dir: Path, language: str) -> None:
        ours = Path(prompting.__file__).parents[2] / "prompts" / f"urial.{language}.txt"
        assert ours.read_bytes() == (shared_dir / "prompts" / f"urial.{language}.txt").read_bytes()

    @pytest.mark.parametrize("text", HARD_QUERIES)
    @pytest.mark.parametrize("method", ["zero-shot", "urial"])
    def test_the_query_is_verbatim_and_all_queries_share_one_prompt_row(self, method: str, text: str) -> None:
        prompt = build(text, method=method)
        assert prompt.tail is not None
        assert prompt.head + text + prompt.tail == prompt.text
        assert prompt.prompt_id == build("another", method=method).prompt_id
        assert prompt.row() == build("another", method=method).row()

    def test_ids_tell_methods_and_languages_apart(self) -> None:
        prompts = [build(method=m, language=code) for m in ("zero-shot", "urial") for code in ("en", "es", "fr")]
        assert len({prompt.prompt_id for prompt in prompts}) == 6
        assert prompts[0].sha256 == hashlib.sha256(prompts[0].text.encode()).hexdigest()

    def test_a_files_template_is_never_rendered_for_a_base_model(self, chat_model: GgufInfo) -> None:
        hostile = changed(chat_model, chat_template="{{ raise_exception('rendered') }}")
        assert build(method="urial", info=hostile).text == build(method="urial").text


class TestNames:
    def test_languages_tell_their_names(self) -> None:
        found = prompting.languages()
        assert {code: (spec.name, spec.own_name) for code, spec in found.items()} == {
            "en": ("English", "English"),
            "es": ("Spanish", "español"),
            "eu": ("Basque", "euskara"),
            "fr": ("French", "français"),
        }
        assert {name: method.kind for name, method in prompting.methods().items()} == {
            "instruct": CHAT,
            "urial": COMPLETION,
            "zero-shot": COMPLETION,
        }

    @pytest.mark.parametrize("method", ["zero-shot", "instruct"])
    def test_an_unknown_language_names_the_known(self, method: str, chat_model: GgufInfo) -> None:
        with pytest.raises(UnknownName, match="no language 'xx'; there are en, es, eu, fr"):
            build(method=method, language="xx", info=chat_model)

    def test_an_unknown_method_names_the_known(self) -> None:
        with pytest.raises(UnknownName, match=r"no method '\.\./x'; there are instruct, urial, zero-shot"):
            build(method="../x")


@pytest.fixture
def portuguese(tmp_path: Path) -> Path:
    """A fourth language and two new methods, by files alone."""
    files = {
        "languages/pt.toml": """
            name = "Portuguese"
            own_name = "português"
            query_heading = "# Pergunta:"
            answer_heading = "# Resposta:"
            stops = ["# Pergunta", "#Pergunta"]
        """,
        "urial.pt.txt": "# Instrução\n\n# Pergunta:\n```Olá?```\n\n# Resposta:\n```\nOlá!\n```\n\n\n",
        "methods/few.toml": """\ufeff
            description = "plain question and answer"
            kind = "completion"
            prefix = "few.txt"
            block = "plain.txt"
        """,
        "few.txt": "\ufeffQ: 1+1?\r\nA: 2\r\n",
        "plain.txt": "Q: {query}\n{answer_heading}",
        "methods/polite.toml": """
            description = "the chat template with a system message"
            kind = "chat"
            system = "polite.{language}.txt"
        """,
        "polite.en.txt": "Be polite.\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(text.encode())
    return tmp_path


class TestFilesOfOnesOwn:
    def test_a_fourth_language_needs_files_only(self, portuguese: Path) -> None:
        prompt = build("Por quê?", method="urial", language="pt", overlay=portuguese)
        assert prompt.text == (
            "# Instrução\n\n# Pergunta:\n```Olá?```\n\n# Resposta:\n```\nOlá!\n```\n\n"
            "# Pergunta:\n```Por quê?```\n\n# Resposta:\n```\n"
        )
        assert prompt.stops == ("# Pergunta", "#Pergunta")
        assert prompt.answer("Olá!\n```\n\n# Pergunta:\n```x").text == "Olá!"
        assert list(prompting.languages(portuguese)) == ["en", "es", "eu", "fr", "pt"]
        assert prompting.languages(portuguese)["pt"].own_name == "português"

    def test_a_method_needs_files_only(self, portuguese: Path) -> None:
        prompt = build("2+2?", method="few", overlay=portuguese)
        assert prompt.text == "Q: 1+1?\nA: 2\n\nQ: 2+2?\n# Answer:"

    def test_texts_in_another_encoding_are_refused(self, portuguese: Path) -> None:
        files = {
            "languages/pt.toml": lambda: build(language="pt", overlay=portuguese),
            "few.txt": lambda: build(method="few", overlay=portuguese),
            "judge.multi.pt.txt": lambda: Templates(overlay=portuguese).get(split="multi", language="pt"),
            "translate.pt.txt": lambda: translation_prompt(source="en", target="pt", overlay=portuguese),
        }
        for name, read in reversed(files.items()):  # the language last: others need it
            (portuguese / name).write_bytes("não".encode("latin-1"))
            with pytest.raises(InputError, match=rf"{name}: is not UTF-8 at byte 1; save it as UTF-8"):
                read()

    def test_a_chat_method_may_have_a_system_message(self, portuguese: Path, chat_model: GgufInfo) -> None:
        prompt = build("Hi", method="polite", info=chat_model, overlay=portuguese)
        assert prompt.text.startswith("<|im_start|>system\nBe polite.<|im_end|>\n<|im_start|>user\nHi<|im_end|>")
        with pytest.raises(InputError, match=r"method polite has no text for 'es': put polite\.es\.txt"):
            build(method="polite", language="es", info=chat_model, overlay=portuguese)

    def test_the_overlay_replaces_a_built_in_file(self, portuguese: Path) -> None:
        (portuguese / "query_block.txt").write_text("<{query}>")
        assert build("x", overlay=portuguese).text == "<x>"

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("languages/xx.toml", "\nname = x\n", r"languages/xx\.toml: not valid TOML: .*line 2"),
            ("languages/xx.toml", 'name = "X"', r"languages/xx\.toml: own_name is missing; it must be a text"),
            (
                "methods/xx.toml",
                'kind = "magic"\ndescription = "x"',
                'kind is \'magic\'; write "completion" or "chat"',
            ),
            (
                "methods/xx.toml",
                'kind = "chat"\ndescription = "x"\nprefix = "y"',
                "a chat method does not read 'prefix'",
            ),
            (
                "methods/xx.toml",
                'kind = "completion"\ndescription = "x"\nblock = "y"',
                "method xx has no text for 'en': put y",
            ),
            ("query_block.txt", "no place", r"query_block\.txt: must hold \{query\} exactly once"),
        ],
    )
    def test_a_damaged_file_is_named(self, tmp_path: Path, name: str, text: str, message: str) -> None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        method = "xx" if name.startswith("methods") else "zero-shot"
        language = "xx" if name.startswith("languages") else "en"
        with pytest.raises(InputError, match=message):
            build(method=method, language=language, overlay=tmp_path)

    @pytest.mark.parametrize("stops", ["[]", '["a", ""]', '"# Query"', "[1]"])
    def test_a_language_has_stops(self, tmp_path: Path, stops: str) -> None:
        (tmp_path / "languages").mkdir()
        (tmp_path / "languages" / "xx.toml").write_text(
            f'name="X"\nown_name="X"\nquery_heading="Q"\nanswer_heading="A"\nstops={stops}'
        )
        with pytest.raises(InputError, match=r"stops .*must be a list of texts"):
            prompting.languages(tmp_path)


def test_the_answer_to_a_base_prompt_ends_where_the_prompts_fence_closes() -> None:
    for method in ("zero-shot", "urial"):
        assert build(method=method).answer("Four.\n```\n\nTotal = 5").text == "Four."


class TestChatPrompts:
    def test_the_files_own_template_ends_where_the_answer_begins(self, chat_model: GgufInfo) -> None:
        prompt = build("Hi?", method="instruct", info=chat_model)
        assert prompt.text == "<|im_start|>user\nHi?<|im_end|>\n<|im_start|>assistant\n"
        assert (prompt.head, prompt.tail) == ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n")
        assert prompt.stops == ()

    def test_the_embedded_models_template(self, embedded_model: Path) -> None:
        info = read_info(embedded_model)
        prompts = [Recipe("instruct", "en").prompt(q, info=info) for q in samples("en").queries]
        assert len({prompt.prompt_id for prompt in prompts}) == 1
        assert prompts[0].text.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
        assert prompts[0].text.endswith("<|im_end|>\n<|im_start|>assistant\n")

    @pytest.mark.parametrize(("add_bos", "times"), [(True, 0), (False, 1)])
    def test_bos_is_in_the_text_only_where_the_tokenizer_adds_none(
        self, chat_model: GgufInfo, add_bos: bool, times: int
    ) -> None:
        info = changed(chat_model, chat_template=LLAMA_CHAT_TEMPLATE, bos_token="<|begin_of_text|>", add_bos=add_bos)
        prompt = build("Hi?", method="instruct", info=info)
        assert prompt.text.count("<|begin_of_text|>") == times
        assert prompt.tail is not None
        assert prompt.head + "Hi?" + prompt.tail == prompt.text

    def test_the_date_is_pinned_and_may_be_chosen(self, chat_model: GgufInfo) -> None:
        info = changed(chat_model, chat_template=LLAMA_CHAT_TEMPLATE)
        assert "Today Date: 26 Jul 2024" in build(method="instruct", info=info).text
        assert "Today Date: 03 Feb 2025" in build(method="instruct", info=info, chat_date="2025-02-03").text

    @pytest.mark.parametrize(
        ("template", "text"),
        [
            (LLAMA_CHAT_TEMPLATE, "  trimmed by the template\n"),
            ("{{ messages[0]['content'] }} {{ messages[0]['content'] }}", "twice"),
            ("{{ messages[0]['content'] | upper }}", "changed"),
        ],
    )
    def test_where_a_template_changes_the_query_the_whole_text_is_the_head(
        self, chat_model: GgufInfo, template: str, text: str
    ) -> None:
        prompt = build(text, method="instruct", info=changed(chat_model, chat_template=template))
        assert (prompt.head, prompt.tail) == (prompt.text, None)
        assert text not in prompt.text or template.count("content") == 2

    def test_a_file_without_template_is_refused(self, chat_model: GgufInfo) -> None:
        with pytest.raises(ModelError, match="instruct needs the chat template of a model's file; give --model"):
            build(method="instruct")
        with pytest.raises(ModelError, match=r"tiny\.gguf holds no chat template, which instruct needs"):
            build(method="instruct", info=changed(chat_model, chat_template=None))
