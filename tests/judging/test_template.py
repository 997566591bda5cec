"""Judge prompts: one published text, what is derived from it, a user's own, and the peer tool's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from icl_local import resources
from icl_local.exceptions import ConfigError, InputError
from icl_local.judging.template import (
    Template,
    Templates,
    just_eval_templates,
    open_templates,
    verdict_schema,
    without_language,
)

FIVE = ("helpfulness", "clarity", "factuality", "depth", "engagement")


def get(split: str = "multi", language: str = "en", **changes) -> Template:
    return Templates(**changes).get(split=split, language=language)


def test_spanish_and_french_are_asked_with_the_published_text_as_it_is(shared_dir: Path):
    published = (shared_dir / "prompts" / "judge.multilingual.txt").read_text()
    assert get(language="es").text == published
    assert get(language="fr").sha256 == get(language="es").sha256
    assert get(language="es").row()["metrics"] == [*FIVE, "language"]


def test_english_lacks_language_consistency_and_nothing_else():
    english, other = get().text, get(language="es").text
    assert get().aspects == FIVE
    assert "Depth and Engagement." in english
    assert "anguage" not in english
    kept = [line for line in english.splitlines() if line not in other.splitlines()]
    assert len(kept) == 1  # the opening sentence
    assert len(other.splitlines()) - len(english.splitlines()) == 5


def test_each_text_has_its_own_version():
    texts = [
        get(),
        get(language="es"),
        get("safety"),
        get(variant="rubric-first"),
        get("safety", variant="rubric-first"),
    ]
    assert len({text.sha256 for text in texts}) == 5


def test_rubric_first_moves_query_and_answer_behind_everything_that_never_changes():
    one, other = (get(variant="rubric-first").fill(*pair) for pair in (("q1", "a1"), ("q2 longer", "a2")))
    shared = next(i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    assert shared > 0.9 * len(one)
    assert set(get(variant="rubric-first").text.split()) >= set(get().text.split())


def test_placeholders_inside_query_or_answer_are_left_alone():
    prompt = get().fill("what is ${candidate}?", "${instruction} costs $5, \\1")
    assert "what is ${candidate}?" in prompt
    assert "${instruction} costs $5, \\1" in prompt


def test_the_schema_asks_for_every_aspect_and_a_whole_score_or_not_applicable():
    schema = verdict_schema(FIVE)
    assert schema["required"] == list(FIVE)
    score = schema["properties"]["depth"]["properties"]["score"]
    assert score == {"anyOf": [{"type": "integer", "enum": [1, 2, 3, 4, 5]}, {"type": "string", "enum": ["N/A"]}]}


def test_a_user_s_text_replaces_the_built_in_one_also_for_one_language(tmp_path):
    own = 'Rate ${instruction} ${candidate} {"depth": {"reason": "", "score": ""}}'
    (tmp_path / "judge.multi.txt").write_text(own)
    (tmp_path / "judge.multi.fr.txt").write_text(own.replace("Rate", "Notez"))
    assert get(overlay=tmp_path).text == own
    assert get(language="fr", overlay=tmp_path).text.startswith("Notez")
    assert get("safety", overlay=tmp_path).text == resources.read_text("prompts", "judge.safety.txt")


@pytest.mark.parametrize(
    "text, message",
    [
        ('${instruction} {"depth": {"reason": "", "score": ""}}', "${candidate}"),
        ('${candidate} {"depth": {"reason": "", "score": ""}}', "${instruction}"),
        ("${instruction} ${candidate}", "no JSON form"),
    ],
)
def test_an_unusable_text_is_refused_with_a_reason(tmp_path, text, message):
    (tmp_path / "judge.multi.txt").write_text(text)
    with pytest.raises(InputError) as error:
        get(overlay=tmp_path)
    assert message in str(error.value)


def test_an_aspect_that_is_named_otherwise_is_not_half_removed():
    text = get(language="es").text.replace("- Language Consistency:", "* Language:")
    with pytest.raises(InputError, match=r"judge\.multi\.en\.txt"):
        without_language(text)


def test_unknown_variants_and_sources_are_reported():
    with pytest.raises(ConfigError, match="rubric-first"):
        open_templates("rubric-last")
    with pytest.raises(ConfigError, match="just-eval=PATH"):
        open_templates("published", sources=["peer.json"])


def clone(folder: Path) -> Path:
    """A folder with the peer's names for its two texts."""
    package = folder / "just_eval"
    package.mkdir(parents=True)
    form = '{"%s": {"reason": "[why]", "score": "[1 to 5]"}}'
    for name, key in (("MULTI", "depth"), ("SAFETY", "safety")):
        text = f"Judge.\n## Query: \n${{instruction}}\n ## Output:\n${{candidate}}\n## Evaluate\n{form % key}\n"
        code = f'import os\n{name}_SCORE_TEMPLATE = """{text}"""\nos.abort()\n'
        (package / f"_{name}_SCORE_TEMPLATE.py").write_text(code)
    return folder


def test_the_peer_s_texts_are_taken_from_a_clone_without_running_it(tmp_path):
    templates = open_templates("published", sources=[f"just-eval={clone(tmp_path / 'clone')}"])
    assert templates.get(split="multi", language="fr").aspects == ("depth",)
    assert templates.get(split="safety", language="en").name == "just-eval.safety"


def test_the_peer_s_text_is_recovered_from_its_judgments(tmp_path):
    text = '## Query:\n${instruction}\n## Output:\n${candidate}\n## Evaluate\n{"depth": {"reason": "", "score": ""}}'
    template = Template("peer", text)
    items = [
        {"input": i, "output_cand": o, "prompt": template.fill(i, o)} for i, o in (("Query", "Output"), ("a", "a a"))
    ]
    file = tmp_path / "judged.json"
    file.write_text(json.dumps(items))
    assert just_eval_templates(file)[0].text == text
    items[1]["prompt"] += " changed"
    file.write_text(json.dumps(items))
    with pytest.raises(InputError, match="no template fits"):
        just_eval_templates(file)


def test_a_split_without_a_peer_text_is_reported(tmp_path):
    file = tmp_path / "judged.json"
    text = '## Query:\n${instruction}\n## Output:\n${candidate}\n## Evaluate\n{"depth": {"reason": "", "score": ""}}'
    file.write_text(json.dumps([{"input": "q", "output_cand": "o", "prompt": Template("p", text).fill("q", "o")}]))
    templates = open_templates("published", sources=[f"just-eval={file}"])
    with pytest.raises(InputError, match="no safety prompt"):
        templates.get(split="safety", language="en")


@pytest.mark.parametrize("split, aspects", [("multi", FIVE), ("safety", ("safety",))])
def test_the_peer_s_published_judgments_hold_one_template(shared_dir: Path, split, aspects):
    (template,) = just_eval_templates(shared_dir / "just_eval" / f"peer_judgments_{split}.example.json")
    assert (template.name, template.aspects) == (f"just-eval.{split}", aspects)


def test_one_metric_by_two_names_is_refused() -> None:
    text = '${instruction} ${candidate} {"language": {"reason": ""}, "language_consistency": {"reason": ""}}'
    with pytest.raises(InputError, match="the same metric by two names"):
        Template("own", text)
