"""Escaping for Slack: event data always, the author's own words never, whatever happens in between."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.errors import TemplateError
from engine.core.vocabulary import PLACED, Vocabulary
from engine.rules.templates import Templates

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
        ("{{ vars.get('mention') }} {{ vars.mention.upper() }}", "<!here> <!HERE>"),
        ("{% for k, v in vars.items() %}{{ k }}{{ v }}{% endfor %}", 'mention<!here>amp&list["<@U2>"]'),
        ("x {{ vars.list }}{{ vars.list | join }}{{ vars['list'][0] }}", 'x ["<@U2>"]<@U2><@U2>'),
        ("{% set v = vars %}{{ v.mention }}{% set v = v.list %}{{ v[0] }}", "<!here><@U2>"),
        ("{{ run.quotes }}", '"it\'s"'),
        ("{{ payload.event }}", SAFE),
        ("{{ delivery.reason }}", SAFE),
        ("{{ items[0].run.name }}", SAFE),
        ("{% for item in items %}{{ item.run.name }} {% endfor %}", SAFE + " a&amp;b "),
        (
            "{% for item in items[:1] %}<{{ item.run.name }}>{{ item.vars.mention }}{% endfor %}",
            f"&lt;{SAFE}&gt;<!here>",
        ),
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
        ("{% set x %}<{{ run.tags[1] }}>{% endset %}{{ x }}", "&lt;&lt;c&gt;&gt;"),
        ("{% macro m(a) %}<{{ a }}>{% endmacro %}{{ m(run.tags[1]) }}", "&lt;&lt;c&gt;&gt;"),
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
        ("{% set x %}<{{ run.tags[0] }}{% endset %}{{ x == '<a&b' }} {{ x | length }} {{ x | wordcount }}", "true 4 2"),
        ("{% set vars = run %}{{ vars.name }}", SAFE),
        ("{% for route in runs %}{{ route.name }}{% endfor %}", SAFE),
        ("{% with event = payload %}{{ event.event }}{% endwith %}", SAFE),
        ("{% macro m(vars) %}{{ vars.name }}{% endmacro %}{{ m(run) }}", SAFE),
        ("{% filter e %}<{{ run.tags[1] }}>{% endfilter %}", "&lt;&lt;c&gt;&gt;"),
        ("{% filter regex_search('<.') %}{{ run.tags[1] }}{% endfilter %}", "&lt;c"),
        ("{% set x | e %}<{{ run.tags[1] }}>{% endset %}{{ x }}", "&lt;&lt;c&gt;&gt;"),
        ("{% set x | replace('c', '<d>') %}{{ run.tags[1] }}{% endset %}{{ x }}", "&lt;<d>&gt;"),
        ("{{ ('<' ~ run.tags[1]).split('<') | last }}", "c&gt;"),
        ("{{ ('<' ~ run.tags[1]).split('<', 1) | last }}", "&lt;c&gt;"),
        ("{{ ('<' ~ run.tags[1]).removeprefix('<') }}", "&lt;c&gt;"),
        ("{{ ('<' ~ run.tags[1]).partition('c') }}", ["<&lt;", "c", "&gt;"]),
        ("{{ ('<' ~ run.tags[1]).rpartition('<') }}", ["<", "&lt;", "c&gt;"]),
        ("{{ ('x' ~ run.tags[1] ~ '>').strip('>') }}", "x&lt;c"),
        ("{{ ('<' ~ run.tags[1]) | replace('<', '[') }}", "[[c&gt;"),
        ("{{ ('<' ~ run.tags[1]) | regex_replace('<', '&') }}", "&&c&gt;"),
        ("{{ ('<' ~ run.tags[1]).find('<c') }} {{ ('<' ~ run.tags[1]).count('<') }}", "1 2"),
        ("{{ '<'.center(3, run.tags[1][0]) }}", "&lt;<&lt;"),
        ("{{ run.tags[1] | indent('> ', true) }}", "> &lt;c&gt;"),
        ("{{ '<%s' % ['<'] }} {{ {'a': '<' ~ run.tags[1]} | tojson }}", '<["<"] {"a":"<&lt;c&gt;"}'),
        ("{{ ('<' ~ run.tags[1]) | list | join('.') }}", "<.&lt;.c.&gt;"),
        ("{{ ('<' ~ run.tags[1])[::-1] }} {{ ('<' ~ run.tags[1]) | reverse }}", "&gt;c&lt;< &gt;c&lt;<"),
        ("{% for c in '<' ~ run.tags[1] %}{{ c }}{% endfor %}", "<&lt;c&gt;"),
        ("{{ ('<' ~ run.tags[1]) * 2 }}", "<&lt;c&gt;<&lt;c&gt;"),
        ("{{ {'x': '<{}>'.format(run.tags[1])}.x }}", "<&lt;c&gt;>"),
        ("{{ '{:>5}'.format(run.tags[1]) }}|{{ '%5s' % run.tags[1] }}", "  &lt;c&gt;|  &lt;c&gt;"),
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
        "{{ '<' ~ run.tags[0] == '<a&b' }}",
        "{{ ['<' ~ run.tags[0]] == ['<a&b'] }}",
        "{{ '&' in '<' ~ run.tags[0] }}",
        "{{ ('<' ~ run.tags[0]).endswith('&b') }}",
        "{{ ('<' ~ run.tags[0]) is eq('<a&b') }}",
        "{{ {'<a&b': true}['<' ~ run.tags[0]] }}",
    ],
)
def test_conditions_see_the_data_as_it_is(text):
    assert render(text) is True


@pytest.mark.parametrize("key", ["text", "markdown"])
def test_white_space_in_a_label_takes_time_that_grows_with_its_length(key):
    document = {**DOCUMENT, "run": {**DOCUMENT["run"], "name": " " * 300_000 + "end"}}
    block = {"type": "markdown", "text": "[{{ run.name }}](https://x)"}
    tree = {"text": "<https://x|{{ run.name }}>"} if key == "text" else {"blocks": [block]}
    began = time.process_time()
    TEMPLATES.compile(tree, escape=frozenset({"text", "blocks"})).render(document)
    assert time.process_time() - began < 10  # it took minutes, in one call that nothing can stop


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


def test_a_type_that_is_no_text_is_no_block():
    tree = {"blocks": [{"type": ["x"], "text": "{{ run.name }}"}, "{{ {'type': [run.name]} }}"]}
    made = TEMPLATES.compile(tree, escape=frozenset({"blocks"})).render(DOCUMENT)["blocks"]
    assert made == [{"type": ["x"], "text": SAFE}, {"type": [SAFE]}]


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
        "{% call run.get('name') %}{% endcall %}",
        "{% call run.name.upper() %}{% endcall %}",
    ],
)
def test_data_does_not_slip_in_by_another_way(text):
    with pytest.raises(TemplateError):
        render(text)


EVIL = "https://evil.example/x|bank.example"


@pytest.mark.parametrize(
    ("text", "data", "expected"),
    [
        ("<{{ run.x }}|its source>", "!channel", "its source (!channel)"),
        ("<{{ run.x }}|its source>", "@U012", "its source (@U012)"),
        ("<{{ run.x }}|its source>", "#C012|name", "its source (#C012|name)"),
        ("<{{ run.x }}|its source>", "javascript:alert(1)", "its source (javascript:alert(1))"),
        ("<{{ run.x }}|its source>", "slack://open", "its source (slack://open)"),
        ("<{{ run.x }}|its source>", "page 3 of the wiki", "its source (page 3 of the wiki)"),
        ("<{{ run.x }}|its source>", "<b>", "its source (&lt;b&gt;)"),
        ("<{{ run.x }}|its source>", "", "its source"),
        ("<{{ run.x }}|its source>", EVIL, "<https://evil.example/x%7Cbank.example|its source>"),
        ("<{{ run.x }}|its source>", "https://x.y/?a=1&b=ü c>", "<https://x.y/?a=1&amp;b=ü%20c%3E|its source>"),
        ("<{{ run.x }}|its source>", "HTTP://x.y/\n<!here>", "<HTTP://x.y/%0A%3C!here%3E|its source>"),
        ("<{{ run.x }}|x>", "https://x.y/\u202egpj\u200b.exe\x9f", "<https://x.y/%E2%80%AEgpj%E2%80%8B.exe%C2%9F|x>"),
        ("<{{ run.x }}|mail>", "mailto:a@b.example", "<mailto:a@b.example|mail>"),
        ("<{{ run.x }}>", "!channel", "&lt;!channel&gt;"),
        ("<{{ run.x }}>", EVIL, "<https://evil.example/x%7Cbank.example>"),
        ("<{% if run.x %}{{ run.x }}{% endif %}|x>", "!here", "x (!here)"),
        ("{% set u = run.x %}<{{ u }}|x>", "!here", "x (!here)"),
        ("{{ '<%s|x>' % run.x }}", "!here", "x (!here)"),
        ("{{ '<' ~ run.x ~ '|x>' }}", EVIL, "<https://evil.example/x%7Cbank.example|x>"),
        ("<{{ run.x }}>", "a < b", "&lt;a &lt; b&gt;"),
        ("<{{ run.x }}>", "x|y", "&lt;x|y&gt;"),
        ("< {{ run.x }}|x>", "!here", "x ( !here)"),
        ("< {{ run.x }}|x>", EVIL, "x ( https://evil.example/x|bank.example)"),
        ("a < {{ run.x }} and b > c", "x!y", "a < x!y and b > c"),
        ("a < {{ run.x }} and b > c", "https://x.y", "a &lt; https://x.y and b &gt; c"),
        ("<\n{{ run.x }}>", "\t!here", "&lt;\n\t!here&gt;"),
        ("{{ '<' ~ run.x ~ '|x>' }}", "a|b", "x (a|b)"),
        ("{{ '<' ~ run.x ~ '>' }}", "a|b", "&lt;a|b&gt;"),
        ("{{ '<' ~ run.x ~ '|x>' }}", " @U012", "x ( @U012)"),
        ("<https://x.y/{{ run.x }}|x>", "a|b c", "<https://x.y/a%7Cb%20c|x>"),
        ("<https://x.y{{ run.x }}|x>", "@evil.example/", "<https://x.y%40evil.example/|x>"),
        ("<https://x.y|{{ run.x }}>", "a>b|c\n<!here>", "<https://x.y|a&gt;b|c &lt;!here&gt;>"),
        ("<https://x.y|{{ run.x }}>", "", "<https://x.y>"),
        ("<@{{ run.x }}>", "U012", "<@U012>"),
        ("<@{{ run.x }}>", "U012|all>", "<@U012%7Call%3E>"),
        ("<!subteam^{{ run.x }}|@team>", "S1", "<!subteam^S1|@team>"),
        ("<{{ vars.mention }}> {{ run.x }}", "!", "<!channel> !"),
        ("<{{ vars.url }}|x> {{ run.x }}", "!", "<slack://x y|x> !"),
        ("a <b {{ run.x }}> c", "!", "a <b !> c"),
        (
            "< 5 s and > 3 {{ run.x }}",
            "(a_b) *c* #1 [d] `e` \\ x:y ~z~ u@v!",
            "< 5 s and > 3 (a_b) *c* #1 [d] `e` \\ x:y ~z~ u@v!",
        ),
    ],
)
def test_data_decides_neither_a_mention_nor_another_target_or_label(text, data, expected):
    document = {"run": {"x": data}, "vars": {"mention": "!channel", "url": "slack://x y"}}
    assert TEMPLATES.compile({"text": text}, escape=frozenset({"text"})).render(document)["text"] == expected


def markdown(text, data):
    tree = {"blocks": [{"type": "markdown", "text": text}]}
    document = {"run": {"x": data}, "vars": {"bold": "**b** [l](https://v.w) <!here>"}}
    return TEMPLATES.compile(tree, escape=frozenset({"blocks"})).render(document)["blocks"][0]["text"]


@pytest.mark.parametrize(
    ("text", "data", "expected"),
    [
        ("[x]({{ run.x }})", "https://x.y/?a=1&b=(2)|3", "[x](https://x.y/?a=1&b=%282%29%7C3)"),
        ("[x](https://x.y/{{ run.x }})", "a) [z](https://e.f", "[x](https://x.y/a%29%20%5Bz%5D%28https://e.f)"),
        ("[x]({{ run.x }})", "javascript:alert(1)", "x (javascript:alert(1))"),
        ("[x]({{ run.x }})", "wiki", "x (wiki)"),
        ('[x]({{ run.x }} "title")', "https://x.y", '[x](https://x.y "title")'),
        ("[{{ run.x }}](https://x.y)", "a](https://evil.example)[b", "[a\\](https://evil.example)\\[b](https://x.y)"),
        ("[{{ run.x }}](https://x.y)", "a\n\nb", "[a b](https://x.y)"),
        ("[{{ run.x }}](https://x.y)", "", "<https://x.y>"),
        ("[x]{{ run.x }}", "(https://e.f)", "[x]\\(https://e.f)"),
        ("{{ run.x }}", "[x](https://e.f)", "\\[x\\](https://e.f)"),
        ("{{ run.x }}", "<!channel> & <@U1>", "&lt;!channel&gt; & &lt;@U1&gt;"),
        ("{{ run.x }}", "&lt;!channel&gt; R&D", "&amp;lt;!channel&amp;gt; R&D"),
        ("{{ run.x }}", "**b** snake_case _i_ 2 * 3 ~s~ `c`", "\\*\\*b\\*\\* snake_case \\_i\\_ 2 * 3 \\~s\\~ \\`c\\`"),
        ("{{ run.x }}", "# no heading\n#5 C:\\new \\*", "\\# no heading\n\\#5 C:\\new \\\\\\*"),
        ("{{ run.x }}", "a\r# b\n  # c\n- # d", "a\r\\# b\n  \\# c\n- \\# d"),
        ("- {{ run.x }}", "# a", "- \\# a"),
        ("> {{ run.x }}", "* a\n  * b", "> \\* a\n  \\* b"),
        ("# {{ run.x }}", "C #", "# C \\#"),
        ("| {{ run.x }} | b |\n|---|---|", "1|2", "| 1\\|2 | b |\n|---|---|"),
        ("{{ run.x }}", "x\n| a |\n|---|", "x\n\\| a \\|\n\\|---\\|"),
        ("<{{ run.x }}>", "!channel", "&lt;!channel&gt;"),
        ("<{{ run.x }}>", "https://x.y?a&b", "<https://x.y?a&b>"),
        ("<@{{ run.x }}>", "U1", "<@U1>"),
        ("`{{ run.x }}`", "a_b <c> & [d] `e`", "`a_b <c> & [d] \u02cbe\u02cb`"),
        ("```\n{{ run.x }}\n```", "<!channel> ```", "```\n<\u2060!channel> \u02cb\u02cb\u02cb\n```"),
        ("{{ vars.bold }} {{ run.x }}", "x", "**b** [l](https://v.w) <!here> x"),
        ("{{ {'a': run.x} | tojson }}", 'q"\\', '{"a":"q\\"\\\\\\\\"}'),
    ],
)
def test_a_markdown_block_shows_data_as_it_is(text, data, expected):
    assert markdown(text, data) == expected


@pytest.mark.parametrize(
    "block",
    [
        {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": ["{{ run.x }}"]}]},
        {"type": "table", "rows": [[{"type": "raw_text", "text": "{{ run.x }}"}]]},
        "{{ {'type': 'rich_text', 'elements': [{'type': 'rich_text_quote', 'elements': [run.x]}]} }}",
    ],
)
def test_blocks_whose_texts_are_shown_as_they_are_get_data_as_it_is(block):
    code = TEMPLATES.compile(
        {"blocks": [block, {"type": "section", "text": "{{ run.x }}"}]}, escape=frozenset({"blocks"})
    )
    literal, section = code.render({"run": {"x": HOSTILE + " a_b"}})["blocks"]
    assert f"'{HOSTILE} a_b'" in str(literal)
    assert section["text"] == SAFE + " a_b"


def test_a_markdown_block_made_by_an_expression_is_escaped_as_one():
    tree = {"blocks": "{{ [{'type': 'markdown', 'text': '[x](' ~ run.x ~ ')'}, {'type': 'section', 'text': run.x}] }}"}
    document = {"run": {"x": "https://x.y/?a=1&b=)"}}
    made = TEMPLATES.compile(tree, escape=frozenset({"blocks"})).render(document)["blocks"]
    assert [block["text"] for block in made] == ["[x](https://x.y/?a=1&b=%29)", "https://x.y/?a=1&amp;b=)"]


def test_marked_data_is_found_sorted_and_counted_as_it_is():
    names = {"a_b": "1_000", "x:y": "2", "ab": "c d_e"}
    document = {"run": {"inputs": names, "tags": ["b", "a_c", "ab", "a!c"]}}
    template = (
        "{% set i = run.inputs %}{{ i.a_b | int }} {{ i['x:y'] | float }} {{ '%(a_b)s' % i }} {{ '{a_b}'.format(**i) }}"
    )
    template += " {{ i.ab | wordcount }} {{ run.tags | sort | join(' ') }}"
    got = TEMPLATES.compile({"text": template}, escape=frozenset({"text"})).render(document)["text"]
    assert got == "1000 2.0 1_000 1_000 2 a!c a_c ab b"
    with pytest.raises(TemplateError, match=r"no 'c_d' \(it has 'a_b', 'x:y', 'ab'\)"):
        TEMPLATES.compile({"text": "{% set i = run.inputs %}{{ i.c_d }}"}, escape=frozenset({"text"})).render(document)


LINKED = st.sampled_from(
    [
        "<{{ run.x }}|label>",
        "<{{ run.x }}>",
        "<https://x.y/{{ run.x }}|label>",
        "<https://x.y|{{ run.x }}>",
        "<{{ run.x }}{{ run.x }}|{{ run.x }}>",
        "{{ run.x }}<{{ run.x | upper }}|label>",
    ]
)


@given(LINKED, st.text(alphabet="<>&|!@#:/htpsmailo \n\ufdd0\ufdee\ufdef", max_size=16))
def test_data_in_a_link_makes_no_mention_and_no_second_target(text, data):
    got = TEMPLATES.compile({"text": text}, escape=frozenset({"text"})).render({"run": {"x": data}})["text"]
    for link in re.findall(r"<([^<>]*)>", got):
        target, _, label = link.partition("|")
        assert target[:1] not in ("!", "@", "#")
        if re.match(r"[A-Za-z]+:", target):
            assert target.lower().startswith(("http:", "https:", "mailto:"))
            assert not re.search(r"\s", target)
            assert "\n" not in label
            if label and "label" in text:
                assert label == "label"
    assert not any("\ufdd0" <= character <= "\ufdef" for character in got.replace("\ufdee", ""))


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
