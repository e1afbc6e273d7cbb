"""Escaping for Slack: event data always, the author's own words never, whatever happens in between."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import TemplateError
from engine.templates import Templates
from engine.vocabulary import PLACED, Vocabulary

TEMPLATES = Templates(Vocabulary(placed=frozenset(PLACED)))
HOSTILE = "<!channel> & <@U1>"
SAFE = "&lt;!channel&gt; &amp; &lt;@U1&gt;"
DOCUMENT = {
    "run": {
        "name": HOSTILE,
        "url": "https://x/?a=1&b=2",
        "tags": ["a&b", "<c>"],
        "inputs": {"q": HOSTILE, "<k>": ["<v>", 1, None], "value": "<w>", "url": "<u>"},
        "json": '{"a": "\\u003c!channel>"}',
        "code": 60,
        "quotes": '"it\'s"',
    },
    "runs": [{"name": HOSTILE}],
    "payload": {"event": HOSTILE, "surprise": HOSTILE},
    "feedback": {"k": {"comment": HOSTILE}},
    "route": {"name": "<R>", "key": "k"},
    "vars": {"mention": "<!here>", "amp": "&", "list": ["<@U2>"]},
    "data": {"x": HOSTILE},
    "surprise": HOSTILE,
    "items": [
        {"run": {"name": HOSTILE}, "vars": {"mention": "<!here>"}, "route": {"name": "<R>"}},
        {"run": {"name": "a&b"}, "vars": {"mention": "<!here>"}, "route": {"name": "<R>"}},
    ],
    "digest": {"count": 2},
    "throttle": {"suppressed": 3, "since": None},
    "delivery": {"reason": HOSTILE, "id": "0"},
}


def render(text, *, escape=("text",), key="text"):
    return TEMPLATES.compile({key: text}, escape=frozenset(escape)).render(DOCUMENT)[key]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ run.name }}", SAFE),
        ("x {{ run.name }}", "x " + SAFE),
        ("<{{ run.url }}|link> <!here> &", "<https://x/?a=1&amp;b=2|link> <!here> &"),
        ("{{ '<b>' }} {{ vars.mention }} {{ vars.list[0] }} {{ route.name }}", "<b> <!here> <@U2> <R>"),
        ("{{ vars.mention }}", "<!here>"),
        ("{{ run.quotes }}", '"it\'s"'),
        ("{{ payload.event }}", SAFE),
        ("{{ delivery.reason }}", SAFE),
        ("{{ items[0].run.name }}", SAFE),
        ("{% for item in items %}{{ item.run.name }} {% endfor %}", SAFE + " a&amp;b "),
        ("{% for item in items[:1] %}<{{ item.run.name }}>{{ item.vars.mention }}{% endfor %}", f"<{SAFE}><!here>"),
        ("{% for item in items[1:] %}{{ item.route.name }}{{ item['run'].name }}{% endfor %}", "<R>a&amp;b"),
        ("{% for item in items[1:] %}{% set i = item %}{{ i.run.name }}{% endfor %}", "a&amp;b"),
        ("{% for item in items[1:] %}{{ item.run['na' ~ 'me'] }}{% endfor %}", "a&amp;b"),
        ("{% for item in items[1:] %}{{ item.get('run').name }}{% endfor %}", "a&amp;b"),
        ("{% for item in items %}{{ loop.previtem.run.name | default('-') }}{% endfor %}", "-" + SAFE),
        ("{{ items | map(attribute='run.name') | join('&') }}", SAFE + "&a&amp;b"),
        ("{% for i in items if i.run.name == 'a&b' %}{{ i.run.name }}{% endfor %}", "a&amp;b"),
        ("{{ (items | last).run.name }} {{ throttle.suppressed }} {{ digest.count }}", "a&amp;b 3 2"),
        ("{{ feedback.k.comment }}", SAFE),
        ("{{ data.x }}", SAFE),
        ("{{ vars.mention ~ run.tags[0] ~ '<' }}", "<!here>a&amp;b<"),
        ("{{ vars.amp + run.tags[0] + '<' }}", "&a&amp;b<"),
        ("{{ run.tags[1] | upper }}", "&lt;C&gt;"),
        ("{{ run.tags[1].upper() }}", "&lt;C&gt;"),
        ("{{ run.tags[1][:1] }}", "&lt;"),
        ("{{ run.tags[1] | truncate(1, true, '', 0) }}", "&lt;"),
        ("{{ run.tags | join('&') }}", "a&amp;b&&lt;c&gt;"),
        ("{{ '&'.join(run.tags) }}", "a&amp;b&&lt;c&gt;"),
        ("{{ '<%s>' % run.tags[1] }}", "<&lt;c&gt;>"),
        ("{{ '<%s>' | format(run.tags[1]) }}", "<&lt;c&gt;>"),
        ("{{ '<{}>'.format(run.tags[1]) }}", "<&lt;c&gt;>"),
        ("{{ '<{r[tags]}>'.format(r=run) }}", '<["a&amp;b","&lt;c&gt;"]>'),
        ("{{ run.tags[1] | replace('c', '<d>') }}", "&lt;<d>&gt;"),
        ("{{ run.tags[1] | replace('<', '(') }}", "(c&gt;"),
        ("{{ 'x' | replace('x', run.tags[1]) }}", "&lt;c&gt;"),
        ("{{ run.tags[1] | string }}", "&lt;c&gt;"),
        ("{{ run.tags[1] | trim('<>') }}", "c"),
        ("{{ run.tags[1].strip('<') }}", "c&gt;"),
        ("{{ run.tags[0].split('&') }}", ["a", "b"]),
        ("{{ run.tags[0].partition('&') }}", ["a", "&amp;", "b"]),
        ("{{ run.tags[1].removeprefix('<').removesuffix('>') }}", "c"),
        ("{{ run.tags[1] | regex_search('<.') }}", "&lt;c"),
        ("{{ run.tags[1] | regex_replace('<(.)>', '<\\\\1\\\\1>') }}", "<cc>"),
        ("{{ run.tags[1] | regex_replace('(.)c', '\\\\1\\\\1') }}", "&lt;&lt;&gt;"),
        ("{{ run.tags[1] | reverse }}", "&gt;c&lt;"),
        ("{{ run.tags[1] | list }}", ["&lt;", "c", "&gt;"]),
        ("{{ run.tags[1] | e }}", "&lt;c&gt;"),
        ("{{ '<' | e }}", "&lt;"),
        ("{{ run.tags[1] | e | e }}", "&lt;c&gt;"),
        ("{{ run.tags[1] | safe }}", "<c>"),
        ("{{ run.tags | safe }}", ["a&b", "<c>"]),
        ("{{ run.json | fromjson }}", {"a": "&lt;!channel&gt;"}),
        ("{{ run.tags | tojson }}", '["a&amp;b","&lt;c&gt;"]'),
        ("x {{ run.tags }}", 'x ["a&amp;b","&lt;c&gt;"]'),
        ("{{ {'q': run.tags[1]} | urlencode }}", "q=%3Cc%3E"),
        ("{{ run.tags[1] | indent | wordwrap | center(7) | title }}", "  &lt;C&gt;  "),
        (
            "{{ run.inputs }}",
            {"q": SAFE, "&lt;k&gt;": ["&lt;v&gt;", 1, None], "value": "&lt;w&gt;", "url": "&lt;u&gt;"},
        ),
        ("{{ run.inputs['<k>'][0] }}", "&lt;v&gt;"),
        ("{{ run.inputs.get('<k>')[0] }}", "&lt;v&gt;"),
        ("{% set r = run %}{{ r.inputs['<k>'][0] }}", "&lt;v&gt;"),
        ("{% set r = run.inputs %}{{ r.get('<k>')[0] }}", "&lt;v&gt;"),
        ("{% set x = run.tags[1] %}{{ x }}", "&lt;c&gt;"),
        ("{% set x %}<{{ run.tags[1] }}>{% endset %}{{ x }}", "<&lt;c&gt;>"),
        ("{% macro m(a) %}<{{ a }}>{% endmacro %}{{ m(run.tags[1]) }}", "<&lt;c&gt;>"),
        ("{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}{{ run.tags[1] }}{% endcall %}", "&lt;c&gt;"),
        ("{% filter upper %}{{ run.tags[1] }}{% endfilter %}", "&lt;C&gt;"),
        ("{% with t = run.tags %}{{ t[1] }}{% endwith %}", "&lt;c&gt;"),
        ("{% set n = namespace(x=run.tags[1]) %}{{ n.x }}", "&lt;c&gt;"),
        ("{% for r in runs %}{{ r.name }}{% endfor %}", SAFE),
        ("{% for run in runs %}{{ run.name }}{% endfor %}", SAFE),
        ("{% for k in run.inputs %}{{ k[:1] }}{% endfor %}", "q&lt;vu"),
        ("{% for k, v in run.inputs.items() %}{% if k == '<k>' %}{{ v[0] }}{% endif %}{% endfor %}", "&lt;v&gt;"),
        ("{% for t in run.tags recursive %}{{ t }}{% endfor %}", "a&amp;b&lt;c&gt;"),
        ("{{ run.tags | map('upper') | first }}", "A&amp;B"),
        ("{{ runs | map(attribute='name') | first }}", SAFE),
        ("{{ dict(a=run.tags[1]).a }}", "&lt;c&gt;"),
        ("{{ run.nope | default(run.tags[1]) }}", "&lt;c&gt;"),
        ("{{ run.tags[1] or 'x' }}", "&lt;c&gt;"),
        ("{{ run.tags[1] if run.tags else 'x' }}", "&lt;c&gt;"),
        ("{{ cycler(run.tags[1]).next() }}", "&lt;c&gt;"),
    ],
)
def test_data_is_escaped_and_the_authors_words_are_not(text, expected):
    assert render(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "{{ run.tags[0] == 'a&b' }}",
        "{{ 'a&b' == run.tags[0] }}",
        "{{ run.tags[0] != 'a&c' }}",
        "{{ 'a&b' in run.tags }}",
        "{{ '&' in run.tags[0] }}",
        "{{ run.tags[1] in ['<c>'] }}",
        "{{ run.tags == ['a&b', '<c>'] }}",
        "{{ run.tags[0] is eq('a&b') }}",
        "{{ run.tags[0] is in(['a&b']) }}",
        "{{ run.tags | select('eq', 'a&b') | list | length == 1 }}",
        "{{ run.tags[1].startswith('<') and run.tags[1].endswith(('>', 'x')) }}",
        "{{ run.tags[1].find('>') == 2 and run.tags[1].count('<') == 1 }}",
        "{{ run.tags[0] | length == 3 }}",
        "{{ run.tags.index('a&b') == 0 }}",
        "{{ run.tags[0] | default('x') == 'a&b' }}",
    ],
)
def test_conditions_see_the_data_as_it_is(text):
    assert render(text) is True


def test_only_the_named_parameters_are_escaped():
    tree = {"text": "{{ run.name }}", "channel": "{{ run.name }}"}
    assert TEMPLATES.compile(tree, escape=frozenset({"text"})).render(DOCUMENT) == {"text": SAFE, "channel": HOSTILE}
    assert render("{{ run.name | e }}", escape=()) == SAFE


def test_what_slack_takes_raw_is_left_raw():
    tree = {
        "blocks": [
            {
                "type": "button",
                "text": {"type": "mrkdwn", "text": "<{{ run.url }}>"},
                "url": "{{ run.url }}",
                "value": "{{ run.name }}",
                "action_id": "a{{ run.tags[0] }}",
            },
            "{{ {'image_url': run.url, 'alt_text': run.url, 'accessory': [{'url': run.url}]} }}",
        ]
    }
    button, image = TEMPLATES.compile(tree, escape=frozenset({"blocks"})).render(DOCUMENT)["blocks"]
    assert button["text"]["text"] == "<https://x/?a=1&amp;b=2>"
    assert (button["url"], button["value"], button["action_id"]) == ("https://x/?a=1&b=2", HOSTILE, "aa&b")
    assert image == {
        "image_url": "https://x/?a=1&b=2",
        "alt_text": "https://x/?a=1&amp;b=2",
        "accessory": [{"url": "https://x/?a=1&b=2"}],
    }


def test_a_raw_key_is_no_way_around():
    assert render("{{ {'url': run.name}.url }}") == SAFE
    assert render("{% set d = {'url': run.name} %}{{ d.url }}") == SAFE
    assert render("{{ run.inputs.url }}") == "&lt;u&gt;"


@pytest.mark.parametrize(
    "text",
    [
        "{% if 0 %}{% set surprise = 1 %}{% endif %}{{ surprise }}",
        "{% for x in [1] %}{% set surprise = 1 %}{% endfor %}{{ surprise }}",
        "{{ '%c' % run.code }}",
        "{{ '{:c}'.format(run.code) }}",
    ],
)
def test_data_does_not_slip_in_by_another_way(text):
    with pytest.raises(TemplateError):
        render(text)


WRAPPED = st.sampled_from(
    [
        "{{ run.x }}",
        "a {{ run.x }} b",
        "{{ run.x ~ vars.v }}",
        "{{ run.x | upper | lower }}",
        "{{ run.x | truncate(5, true, '', 0) }}",
        "{{ run.x[1:4] }}",
        "{{ run | tojson }}",
        "{{ [run.x, 'y'] | join('-') }}",
        "{{ '%s' % run.x }}",
        "{{ run.x.replace('&', run.x) }}",
        "{{ run.x | regex_replace('[<>]', '\\\\0\\\\0') }}",
        "{{ (run | tojson | fromjson).x }}",
        "{% for c in run.x %}{{ c }}{% endfor %}",
        "{% set y %}{{ run.x }}{% endset %}{{ y }}",
    ]
)


@given(WRAPPED, st.text(alphabet='<>&;lta#!\\u03c "ü한\ufdd0\ufdd1', max_size=12))
def test_no_angle_bracket_or_bare_ampersand_of_the_data_survives(text, data):
    document = {"run": {"x": data}, "vars": {"v": "v"}}
    got = TEMPLATES.compile({"text": text}, escape=frozenset({"text"})).render(document)["text"]
    assert "<" not in got
    assert ">" not in got
    bare = got.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "")
    assert "&" not in bare
