"""Chat templates: rendered as Transformers renders them, and harmless whatever they try."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from icl_local.child_process import ChildEnded
from icl_local.exceptions import ModelError
from icl_local.prompting import chat_template
from icl_local.weights import read_info
from tests.tiny_model import LLAMA_CHAT_TEMPLATE


def render_chat(
    template: str,
    messages: list[dict[str, str]],
    bos_token: str | None = None,
    eos_token: str | None = None,
    **how: Any,
) -> str:
    info: Any = SimpleNamespace(chat_template=template, bos_token=bos_token, eos_token=eos_token, add_bos=False)
    return chat_template.chat_text(info, messages, **how)


TAGS = """{%- set ns = namespace(n=0) %}
{% for m in messages %}
    {%- if m.role == 'system' %}{% continue %}{% endif %}
    {%- set ns.n = ns.n + 1 %}
  {{ [m, {'k': none}] | tojson }} {{ m | tojson(indent=2) }} {{ strftime_now('%Y %B %d') }}
  {% generation %}{{ m.content.strip() }}{{ eos_token }}{% endgeneration %}
{% endfor %}{{ ns.n }} {{ tools is none }} {{ documents is defined }} {{ pad_token is defined }}|{{ unknown }}|"""


@pytest.mark.parametrize("name", ["llama", "smollm", "tags and filters"])
def test_renders_what_transformers_renders(name: str, embedded_model: Path) -> None:
    theirs = pytest.importorskip("transformers.utils.chat_template_utils")
    smollm = read_info(embedded_model).chat_template
    template = {"llama": LLAMA_CHAT_TEMPLATE, "smollm": smollm, "tags and filters": TAGS}[name]
    messages = [{"role": "user", "content": ' Bonjour <é> & "toi"\n'}]
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    (expected,), _ = theirs.render_jinja_template(
        [messages], chat_template=template, add_generation_prompt=True, **tokens
    )
    today = datetime.now().strftime("%Y-%m-%d")
    assert render_chat(template or "", messages, date=today, **tokens) == expected


HOSTILE = {
    "class": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ cycler.__init__.__globals__['os'].system('id') }}",
    "own functions": "{{ raise_exception.__globals__['sys'] }}",
    "attr filter": "{{ ('x' | attr('__class__')).__base__ }}",
    "format string": "{{ '{0.__class__.__init__.__globals__}'.format(messages) + 1 }}",
    "changing its input": "{{ messages.append({}) }}",
    "include": "{% include '/etc/passwd' %}",
    "memory by product": "{{ 'x' * 10**10 }}",
    "memory by list": "{{ [0] * 10**10 }}",
    "memory by doubling": "{% set n = namespace(x='x') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "memory by format": "{{ '%2000000000d' | format(1) }}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "deep nesting": "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "syntax": "{% if %}",
    "division": "{{ 1 / 0 }}",
    "its own word": "{{ raise_exception('System role\nnot supported') }}",
}
ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
USER = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_template_fails_in_one_line(attack: str) -> None:
    with pytest.raises(ModelError, match="the model's chat template ") as refused:
        render_chat(HOSTILE[attack], USER)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500


def test_endless_loops_are_stopped_and_the_next_render_works() -> None:
    assert render_chat("{{ messages[0].content }}", USER) == "hi"
    with pytest.raises(ModelError, match=r"ran longer than 0\.2 s and was stopped"):  # it would take hours
        render_chat(ENDLESS, USER, time_limit=0.2)
    assert render_chat("{{ messages[0].content }}", USER) == "hi"


def test_a_product_no_signal_could_interrupt_is_stopped() -> None:
    with pytest.raises(ModelError, match=r"stopped|memory|fails"):
        render_chat("{{ (7 ** (10 ** 8)) % 10 }}", USER, time_limit=0.5)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc")
def test_keys_are_not_in_the_renderers_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    renderer = chat_template.start_renderer()
    environment = Path(f"/proc/{renderer.pid}/environ").read_bytes()
    renderer.close(seconds=0)
    assert b"PATH=" in environment
    assert b"sk-secret" not in environment


def test_a_renderer_whose_parent_is_gone_ends_itself() -> None:
    renderer = chat_template.start_renderer()
    request = {"template": ENDLESS, "messages": [], "tokens": {}, "date": "2024-07-26"}
    renderer.send({**request, "time_limit": 0.1 - chat_template._ORPHAN_SECONDS})
    with pytest.raises(ChildEnded, match="SIGALRM"), renderer.time_limit(30.0):
        renderer.receive()
    renderer.close(seconds=0)


def test_long_texts_go_through() -> None:
    text = "é" * 300_000
    assert render_chat("{{ messages[0].content }}", [{"role": "user", "content": text}]) == text
