from __future__ import annotations

import time

import pytest

from edge_llama import TemplateError
from edge_llama.template import MAX_TEMPLATE_CHARS, ChatTemplate

HELLO = [{"role": "user", "content": "Hello"}]


def render(source: str) -> str:
    return ChatTemplate(source, bos="<s>", eos="</s>").render(HELLO)


def test_settings_are_those_of_transformers() -> None:
    source = """
        {%- for message in messages %}
            {{- bos_token + message['role'] + ': ' + message.content | trim }}
            {%- if loop.last %}{% break %}{% endif %}
        {% endfor %}
        {%- if add_generation_prompt %}{{ '|assistant' }}{% endif %}"""
    assert render(source) == "<s>user: Hello|assistant"


def test_to_json_escapes_no_letters() -> None:
    assert render("{{ {'a': '<é>'} | tojson }}") == '{"a": "<é>"}'


def test_strftime_now() -> None:
    assert render("{{ strftime_now('%Y') }}").isdigit()


def test_the_template_s_own_refusal_is_shown() -> None:
    with pytest.raises(TemplateError, match="only two roles"):
        render("{{ raise_exception('only two roles') }}")


DOUBLING = """{% set ns = namespace(s='aaaaaaaa') %}
{% for i in range(64) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}"""
ENDLESS = """{% for i in range(90000) %}{% for j in range(90000) %}
{{ 'x' * 9999 }}{% endfor %}{% endfor %}"""


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__class__.mro() }}",
        "{{ raise_exception.__globals__['os'] }}",
        "{{ messages.append(1) }}",
        "{{ self.__init__.__globals__ }}",
        "{{ lipsum.__globals__['os'].system('true') }}",
        "{% include 'file' %}",
        "{% import 'os' as os %}{{ os }}",
        "{{ 1 / 0 }}",
        "{{ undefined.attribute }}",
        "{{ range(10 ** 9) }}",
        "{{ 'a' * 10 ** 12 }}",
        "{{ 10 ** 10 ** 10 }}",
        "{{ [0] * 10 ** 12 }}",
        DOUBLING,
        ENDLESS,
    ],
)
def test_hostile_templates_raise_soon_and_touch_nothing(source: str) -> None:
    started = time.perf_counter()
    with pytest.raises(TemplateError) as caught:
        render(source)
    assert caught.value.hint
    assert time.perf_counter() - started < 30


@pytest.mark.parametrize("source", ["{% for %}", "{{ 'a", "x" * (MAX_TEMPLATE_CHARS + 1)])
def test_invalid_templates_are_refused_when_made(source: str) -> None:
    with pytest.raises(TemplateError):
        ChatTemplate(source)


def test_python_s_insides_are_not_shown() -> None:
    assert render("{{ messages.__class__ }}{{ raise_exception.__globals__ }}") == ""
