from __future__ import annotations

import json
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
    assert_refused_soon(source)


def assert_refused_soon(source: str) -> None:
    """Within 2 s of processor time, however busy the machine is."""
    started = time.thread_time()
    with pytest.raises(TemplateError) as caught:
        render(source)
    assert caught.value.hint
    assert len(str(caught.value)) < 500
    assert time.thread_time() - started < 2


#: Each of these once took minutes, gigabytes, or both.
_LONG = "{% set s = 'x' * 9000000 %}"
_MANY = "{% for i in range(9999) %}"
_DOUBLE = (
    "{{% set ns = namespace(s={}) %}}{{% for i in range(64) %}}{{% set ns.s = {} %}}{{% endfor %}}"
)
COSTLY = [
    f"{_MANY}{_MANY}{{% endfor %}}{{% endfor %}}",
    "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    _DOUBLE.format("'aa'", "ns.s ~ ns.s"),
    _DOUBLE.format("['a']", "[ns.s, ns.s]") + "{{ ns.s == 1 }}",
    _DOUBLE.format("(1,)", "(ns.s, ns.s)") + "{{ {ns.s: 1} }}",
    _DOUBLE.format("3", "ns.s * ns.s"),
    "{{ 'a'.ljust(2000000000) }}",
    "{{ '%2000000000d' % 1 }}",
    "{{ '%*d' % (2000000000, 1) }}",
    "{{ '%2000000000d'|format(1) }}",
    "{{ '{:2000000000}'.format(1) }}",
    "{{ '{:{}}'.format(1, 2000000000) }}",
    "{{ '{0:{1}}'.format(1, 2000000000) }}",
    _LONG + "{{ s|replace('x', s) }}",
    _LONG + "{{ s.replace('', s) }}",
    _LONG + "{{ ([s] * 9)|join(s) }}",
    _LONG + "{{ s.join(['a'] * 9999) }}",
    _LONG + "{{ range(9999)|map('string')|join(s) }}",
    _LONG + "{{ ([s[:900000]] * 9999)|string }}",
    _LONG + "{{ [1]|batch(9999, s)|list|string }}",
    _LONG + "{{ ('%s' * 9999) % ((s,) * 9999) }}",
    _LONG + "{% set t %}" + _MANY + "{{ s }}{% endfor %}{% endset %}",
    "{% set t %}" + _MANY + "y" * 90000 + "{% endfor %}{% endset %}",
    "{{ ('\n' * 9000000)|indent(9999) }}",
    "{{ [1]|tojson(indent=2000000000) }}",
    _LONG + _MANY + "{% set x = [s, s]|tojson %}{% endfor %}",
    "{{ ([['a']] * 9999)|sum(start=[]) }}",
    "{{ ('x ' * 7000000).split()|length }}",
    "{{ ('x ' * 7000000)|title }}",
    _MANY + "{% set x = range(9999)|sort|map('string')|unique|list %}{% endfor %}",
    "{{ ('\t' * 9000000).expandtabs(9999) }}",
    "{{ ('a' * 9000000).translate({97: 'b' * 9999}) }}",
    "{{ strftime_now('%Y' * 999) }}",
    "{{ raise_exception('x' * 9000000) }}",
    "{% macro m() %}{{ caller() }}{{ caller() }}{% endmacro %}"
    + "{% call m() %}" * 60
    + "x"
    + "{% endcall %}" * 60,
    "{{a}}" * 19999,
    "{{ " + "~".join(["a"] * 49000) + " }}",
    "{% if a %}" * 9000,
]


@pytest.mark.parametrize("source", COSTLY, ids=range(len(COSTLY)))
def test_costly_templates_are_refused_soon(source: str) -> None:
    assert_refused_soon(source)


def test_honest_templates_of_long_conversations_are_rendered() -> None:
    source = """{%- for message in messages %}
        {%- if loop.index0 == messages|length - 1 %}!{% endif %}
        {{- '<' ~ message['role'] + '>' + message.content | trim | replace('x', 'y') }}
        {%- endfor %}{{ '%s %5.1f' % (messages|map(attribute='role')|unique|join('+'), 1) }}
        {{- "{0}{1:>3}".format('a', 7) }}{{ messages[0]|tojson(indent=2)|length }}"""
    messages = [{"role": ("user", "assistant")[i % 2], "content": "x" * 600} for i in range(2000)]
    text = ChatTemplate(source).render(messages)
    length = len(json.dumps(messages[0], indent=2))
    assert text.startswith("<user>" + "y" * 600 + "<assistant>yyy")
    assert text.endswith("y" * 600 + f"user+assistant   1.0a  7{length}")
    assert text.count("!") == 1


@pytest.mark.parametrize("source", ["{% for %}", "{{ 'a", "x" * (MAX_TEMPLATE_CHARS + 1)])
def test_invalid_templates_are_refused_when_made(source: str) -> None:
    with pytest.raises(TemplateError):
        ChatTemplate(source)


def test_python_s_insides_are_not_shown() -> None:
    assert render("{{ messages.__class__ }}{{ raise_exception.__globals__ }}") == ""
