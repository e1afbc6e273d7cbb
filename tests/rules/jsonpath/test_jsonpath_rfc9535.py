"""JSONPath as RFC 9535 has it: each path gives the RFC's values, or is refused with what to write instead."""

from __future__ import annotations

from typing import Any

import pytest

from engine.core.errors import PathError
from engine.core.vocabulary import Vocabulary
from engine.rules.jsonpath import Paths, compile_path
from engine.rules.jsonpath.filter_tests import filter_tests
from engine.rules.jsonpath.mistakes import compile_checked
from engine.rules.jsonpath.needs import ALL_NEEDS

STORE: dict[str, Any] = {
    "book": [
        {"title": "Sayings", "price": 8.95, "tags": ["a", "b"], "isbn": None},
        {"title": "Sword", "price": 12.99, "tags": [], "author": {"name": "Evelyn"}},
        {"title": "Moby", "price": 8, "isbn": "0-553", "author": {"name": "Herman"}},
    ],
    "bike": {"price": 399, "color": "red"},
}
ODD: dict[str, Any] = {
    "a": {"b": 1},
    "質問": "?",
    "naïve-key": 2,
    "two words": 3,
    "it's": 4,
    'say "x"': 5,
    "back\\slash": 6,
    "line\nend": 7,
    "tab\t": 8,
    "😀": 9,
    "/": 10,
    "where": 11,
    "true": {"null": 12},
    "*": 13,
    "": 14,
    "1": 15,
    "length": 16,
}
VALUES: list[Any] = [0, 1, 1.0, "1", "", "ab", "a\nb", "a.b", None, True, False, [], [1], {}, {"k": 1}, -3, 1000]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        # 2.3.1, 2.5.1: names
        ("$.質問", ["?"]),
        ("$['質問']", ["?"]),
        ('$["\\u8CEA\\u554f"]', ["?"]),
        ("$['\\uD83D\\uDE00']", [9]),
        ("$.😀", [9]),
        ("$['naïve-key']", [2]),
        ("$['two words']", [3]),
        ("$['it\\'s']", [4]),
        ('$["it\'s"]', [4]),
        ('$["say \\"x\\""]', [5]),
        ("$['back\\\\slash']", [6]),
        ("$['line\\nend']", [7]),
        ("$['tab\\t']", [8]),
        ("$['\\/']", [10]),
        ("$['/']", [10]),
        ("$.where", [11]),
        ("$.true.null", [12]),
        ("$['true']['null']", [12]),
        ("$['*']", [13]),
        ("$['']", [14]),
        ("$['1']", [15]),
        ("$.length", [16]),
        ("$ ['a'] . b", [1]),
        ("$\n.a\r\n.b", [1]),
        ("$['missing']", []),
        ("$['質問', 'where']", ["?", 11]),
        ("$['where', 'where']", [11, 11]),
    ],
)
def test_names(path: str, found: list[Any]) -> None:
    assert compile_path(path).find(ODD) == found


@pytest.mark.parametrize(
    ("path", "found"),
    [
        # 2.5.1.2: several selectors, in their order, each for itself
        ("$.book[0, -1].title", ["Sayings", "Moby"]),
        ("$.book[0, 1:].title", ["Sayings", "Sword", "Moby"]),
        ("$.book[2, 0:2].title", ["Moby", "Sayings", "Sword"]),
        ("$.book[0, 0, :1].title", ["Sayings", "Sayings", "Sayings"]),
        ("$.book[::2].title", ["Sayings", "Moby"]),
        ("$.book[::-1].title", ["Moby", "Sword", "Sayings"]),
        ("$.book[5:0:-2].title", ["Moby"]),
        ("$.book[::0].title", []),
        ("$.book[*, 0].title", ["Sayings", "Sword", "Moby", "Sayings"]),
        ("$.book[?@.isbn, 1].title", ["Sayings", "Moby", "Sword"]),
        ("$.book[?@.price < 10, ?@.author].title", ["Sayings", "Moby", "Sword", "Moby"]),
        ("$.bike['color', *]", ["red", 399, "red"]),
        ("$.book['title', 0].title", ["Sayings"]),
        ("$..['name', 0].title", ["Sayings"]),
        ("$..[0, 'color']", [STORE["book"][0], "a", "red"]),
        ("$..author..name", ["Evelyn", "Herman"]),
        ("$..[?@.name].name", ["Evelyn", "Herman"]),
        ("$..[?@.price > 100]['color']", ["red"]),
        # 2.3.5: filters
        ("$.book[?@.isbn].title", ["Sayings", "Moby"]),
        ("$.book[?!@.isbn].title", ["Sword"]),
        ("$.book[?(@.isbn && @.price < 8.5)].title", ["Moby"]),
        ("$.book[?@.price < 8.5 || @.author.name == 'Evelyn'].title", ["Sword", "Moby"]),
        ("$.book[?@.author && @.isbn || @.tags[1]].title", ["Sayings", "Moby"]),
        ("$.book[?!(@.isbn)].title", ["Sword"]),
        ("$.book[?!(@.price < 10)].title", ["Sword"]),
        ("$.book[?!(@.isbn && @.price < 8.5)].title", ["Sayings", "Sword"]),
        ("$.book[?!(@.price < 10 || @.title == 'Sword')].title", []),
        ("$.book[?!(!(@.isbn))].title", ["Sayings", "Moby"]),
        ("$.book[?! ( @.isbn == null )].title", ["Sword", "Moby"]),
        ("$.book[?10 > @.price].title", ["Sayings", "Moby"]),
        ("$.book[?'Moby' == @.title].price", [8]),
        ("$.book[?8e0 == @.price].title", ["Moby"]),
        ("$.book[?@.price == 899.0e-2 || @.price == 0.8E+1].title", ["Moby"]),
        ("$.book[?@.price < 1E1].title", ["Sayings", "Moby"]),
        ("$.book[?@.price > $.bike.price].title", []),
        ("$.book[?@['author']['name'] == \"Herman\"].title", ["Moby"]),
        ("$.book[?@.tags[?@ == 'b']].title", ["Sayings"]),
        ("$.book[?1 == 1].title", ["Sayings", "Sword", "Moby"]),
        ("$.book[?'a' > 'b'].title", []),
        ("$.book[?$.bike.color == 'red'].title", ["Sayings", "Sword", "Moby"]),
        ("$[?@.color].price", [399]),
        # 2.4: functions
        ("$.book[?length(@.title) == 5].title", ["Sword"]),
        ("$.book[?length(@.tags) > 0].title", ["Sayings"]),
        ("$.book[?length(@.author) == 1].title", ["Sword", "Moby"]),
        ("$.book[?length(@.price) == 4].title", []),
        ("$.book[?length(@.nothing) == length(@.price)].title", ["Sayings", "Sword", "Moby"]),
        ("$.book[?4 <= length(@.title) && length(@.title) < 6].title", ["Sword", "Moby"]),
        ("$.book[?length('abcde') == length(@.title)].title", ["Sword"]),
        ("$.book[?@.price > length(@.title)].title", ["Sayings", "Sword", "Moby"]),
        ("$.book[?count(@.*) == 4].title", ["Sayings", "Sword", "Moby"]),
        ("$.book[?count(@.tags[*]) >= 1].title", ["Sayings"]),
        ("$.book[?count(@..*) > 5].title", ["Sayings"]),
        ("$.book[?count(@.author['name', 'born']) == 1].title", ["Sword", "Moby"]),
        ("$.book[?value(@..name) == 'Evelyn'].title", ["Sword"]),
        ("$.book[?value(@.tags[*]) == 'a'].title", []),
        ("$.book[?length(value(@..name)) == 6].title", ["Sword", "Moby"]),
        ("$.book[?match(@.title, 'S.*')].title", ["Sayings", "Sword"]),
        ("$.book[?match(@.title, 'S')].title", []),
        ("$.book[?match(@.title, 'Mo|Moby')].title", ["Moby"]),
        ("$.book[?match(@.isbn, '[0-9]-\\\\d{3}')].title", ["Moby"]),
        ("$.book[?search(@.title, '[wb]')].title", ["Sword", "Moby"]),
        ("$.book[?search(@.price, '8')].title", []),
        ("$.book[?!match(@.title, 'S.*')].title", ["Moby"]),
        ("$.book[?!search(@.title, 'y') && @.price].title", ["Sword"]),
        ("$.book[?match(value(@..name), 'H.*')].title", ["Moby"]),
        ("$.book[?(match(@.title, 'S.*') || @.isbn) && !(@.price > 10)].title", ["Sayings", "Moby"]),
        ("$.book[?@.author[?length(@) > 5]].title", ["Sword", "Moby"]),
    ],
)
def test_selectors_filters_and_functions(path: str, found: list[Any]) -> None:
    assert compile_path(path).find(STORE) == found


@pytest.mark.parametrize(
    ("test", "found"),
    [
        # 2.3.5.2.2: comparisons never convert, and order numbers and texts only
        ("@ == 1", [1, 1.0]),
        ("@ == '1'", ["1"]),
        ("@ == true", [True]),
        ("@ == null", [None]),
        ("@ < 1", [0, -3]),
        ("@ <= 1e0", [0, 1, 1.0, -3]),
        ("@ >= 1e3", [1000]),
        ("@ < 'ab'", ["1", "", "a\nb", "a.b"]),
        ("@ <= null", [None]),
        ("@ < true", []),
        ("@ == -3", [-3]),
        ("@ != @", []),
        ("@ == @.missing", []),
        ("@.missing == @.other && @ == ''", [""]),
        ("@.k != 1", [value for value in VALUES if value != {"k": 1}]),
        ("length(@) == 0", ["", [], {}]),
        ("count(@[*]) == 1", [[1], {"k": 1}]),
        ("match(@, 'a.b')", ["a.b"]),
        ("match(@, 'a[.]b')", ["a.b"]),
        ("match(@, 'a\\\\.b')", ["a.b"]),
        ("search(@, 'a')", ["ab", "a\nb", "a.b"]),
        ("search(@, 'a.b')", ["a.b"]),
    ],
)
def test_comparisons(test: str, found: list[Any]) -> None:
    assert repr(compile_path(f"$[?{test}]").find(VALUES)) == repr(found)


@pytest.mark.parametrize(("end", "fits"), [("\n", False), ("\r", False), ("\u2028", True), (" ", True)])
def test_a_dot_fits_no_end_of_a_line(end: str, fits: bool) -> None:
    for function in ("match", "search"):
        assert compile_path(f"$[?{function}(@, 'a.b')]").find([f"a{end}b"]) == ([f"a{end}b"] if fits else [])


@pytest.mark.parametrize(("pattern", "found"), [("a|b", ["a", "b"]), ("(a|b)", ["a", "b"]), ("a.|b", ["b", "ax"])])
def test_match_fits_the_whole_text_whatever_the_pattern_leaves_open(pattern: str, found: list[str]) -> None:
    assert compile_path(f"$[?match(@, '{pattern}')]").find(["a", "b", "ax", "xb"]) == found


def test_the_largest_index_of_all_can_be_written() -> None:
    assert compile_path("$[9007199254740991]").find([1]) == []
    assert compile_path("$[-9007199254740991]").find([1]) == []


@pytest.mark.parametrize(
    ("path", "message", "instead"),
    [
        ("$['a\\db']", "\\d is not a known escape", "\\\\d"),
        ("$['\\uD83D']", "half of a surrogate pair", ""),
        ("$['\\u12']", "\\u is not a known escape", ""),
        ("$['a]", "' is not closed", ""),
        ("$[01]", "a number has no leading zero", "['01']"),
        ("$[9007199254740992]", "a whole number in a path is 9007199254740991 at most", ""),
        ("$[?@.a == 1e999]", "larger than any JSON number", ""),
        ("$[?@.a == -1e999]", "larger than any JSON number", ""),
        ("$.a[質問]", "a name in brackets needs quotes", "['質問']"),
        ("$[?@.a == \u2018x\u2019]", "a text needs quotes", "write 'x'"),
        ("$[?@name == 'x']", "@name is neither @ nor a name", "write @.name"),
        ("$[?1]", "1 alone is not a test", "compare it"),
        ("$[?'a']", "'a' alone is not a test", "compare it"),
        ("$[?@.a && true]", "true alone is not a test", "compare it"),
        ("$[?!@.a == 1]", "! must be followed by a group", "write !(@.a == 1)"),
        ("$[?!!@.a]", "! can be written only once", "remove both"),
        ("$[?length(@.a)]", "length(…) gives a value, which is not a test", "compare it: length(…) > 0"),
        ("$[?match(@.a, 'x') == true]", "match(…) is a test already", "write match(@.a, 'x'), or !match(@.a, 'x')"),
        ("$[?true == search(@.a, 'x')]", "search(…) is a test already", "write search(@.a, 'x')"),
        ("$[?length(@.*) > 1]", "length takes one value, and @.* can find several", "count(@.*)"),
        ("$[?length(@['a','b']) > 1]", "length takes one value, and @['a','b'] can find several", "count(@['a','b'])"),
        ("$[?match(@..a, 'x')]", "match takes one value, and @..a can find several", "@..a[?match(@, '…')]"),
        ("$[?count(1) > 1]", "count takes a query", "write count(@.name)"),
        ("$[?count('a') > 1]", "count takes a query", "write count(@.name)"),
        ("$[?length(@.a, @.b) > 1]", "length does not take this", "write length(@.name)"),
        ("$[?match(@.a)]", "match does not take this", "write match(@.name, 'pattern')"),
        ("$[?search(@.a, @.b)]", "the pattern of search must be a literal", "search(@.a, '…')"),
        ("$[?search(@.a, '(?=x)')]", "not a valid RE2 pattern", "lookahead"),
        ("$[?size(@.a) > 1]", "there is no function 'size'", "length(…), count(…)"),
        ("$[?count(@.k[*]) > 1].`parent`", "jsonpath-ng itself evaluates `parent`", "a condition of its own"),
        ("$[?@.total_cost > 1].`parent`", "jsonpath-ng itself evaluates `parent`", "a condition of its own"),
    ],
)
def test_what_is_not_accepted_says_what_to_write(path: str, message: str, instead: str) -> None:
    with pytest.raises(PathError) as caught:
        compile_checked(path)
    assert message in str(caught.value)
    assert instead in caught.value.hint


@pytest.mark.parametrize(
    ("path", "advised"),
    [
        ("$[01]", "$['01']"),
        ("$['a\\db']", "$['a\\\\db']"),
        ("$[?@name == 'x']", "$[?@.name == 'x']"),
        ("$[?!@.a == 1]", "$[?!(@.a == 1)]"),
        ("$[?length(@.a)]", "$[?length(@.a) > 0]"),
        ("$[?length(@.*) > 1]", "$[?count(@.*) > 1]"),
        ("$[?match(@..a, 'x')]", "$[?@..a[?match(@, 'x')]]"),
        ("$[?search(@.a, @.b)]", "$[?search(@.a, 'x')]"),
        ("$.a[質問]", "$.a['質問']"),
    ],
)
def test_what_is_advised_is_accepted(path: str, advised: str) -> None:
    with pytest.raises(PathError):
        compile_checked(path)
    compile_checked(advised)


@pytest.mark.parametrize(
    ("test", "found"),
    [
        ("@.total_cost > 0.5", ["0.62", 0.7, "1e1"]),
        ("@.total_cost > '0.5'", ["0.62", 0.7, "1e1", "n/a"]),
        ("0.5 < @.total_cost", ["0.62", 0.7, "1e1"]),
        ("@.total_cost == 0.62", ["0.62"]),
        ("@.total_cost == '0.62'", ["0.62"]),
        ("@.total_cost == '0.620'", []),
        ("!(@.total_cost > 0.5)", ["0.05", "n/a", None]),
        ("@.total_cost > @.prompt_cost", ["1e1"]),
        ("@.prompt_cost_details.cached > 1", ["0.05"]),
        ("@['total_cost'] < 0.1", ["0.05"]),
        ("@.other > 0.5", []),
    ],
)
def test_costs_are_numbers_in_texts(test: str, found: list[Any]) -> None:
    """LangSmith's schema has costs as texts. Everything else in a filter is compared as the RFC says."""
    runs = [
        {"total_cost": "0.62", "other": "0.62"},
        {"total_cost": "0.05", "prompt_cost_details": {"cached": "2.0"}},
        {"total_cost": 0.7},
        {"total_cost": "1e1", "prompt_cost": "9.0"},
        {"total_cost": "n/a"},
        {"total_cost": None},
    ]
    assert compile_path(f"$.runs[?{test}].total_cost").find({"runs": runs}) == found


@pytest.mark.parametrize(
    ("path", "needs"),
    [
        ("$.runs[?length(@.inputs.q) > 1].id", {"inputs"}),
        ("$.runs[?count(@.outputs.*) > 1].id", {"outputs"}),
        ("$.runs[?value(@.outputs..a) == 1].id", {"outputs"}),
        ("$.runs[?match(@.inputs.q, 'x')].id", {"inputs"}),
        ("$.runs[?!(@.inputs.q == 1)].id", {"inputs"}),
        ("$.runs[?1 == count($.feedback.*)].id", {"feedback"}),
        ("$.runs[?length(@.name) > 1 && !(@.error)].id", set()),
        ("$.runs[?count(@..*) > 9].id", ALL_NEEDS - {"feedback"}),
        ("$.runs[*]['name', 0].id", set()),
    ],
)
def test_needs_of_functions(path: str, needs: set[str]) -> None:
    assert compile_path(path).needs == needs


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("$.runs[?@.status == 'x']", [("runs", None, "status", "eq", "x")]),
        ("$.runs[?0.5 < @.total_cost]", [("runs", None, "total_cost", "gt", 0.5)]),
        ("$.runs[?!(@.a || @.b >= 1)]", [("runs", None, "a", ""), ("runs", None, "b", "gte", 1)]),
        ("$.runs[0].a[?match(@.b, 'x')]", [("runs", 0, "a", None, "b", "matches", "^x$")]),
        ("$.runs[?count(@.a[*]) > 1]", [("runs", None, "a", None, "")]),
        ("$.runs[?length(@.a) > 1]", [("runs", None, "a", "")]),
        ("$.runs[?@.a == $.b]", [("runs", None, "a", ""), ("b", "")]),
        ("$.a[?@.b[?@.c == 1]]", [("a", None, "b", None, "c", "eq", 1), ("a", None, "b", "")]),
        ("$..a[?@.b == $.c]", [("c", "")]),
        ("$.a.b", []),
    ],
)
def test_what_filters_ask_is_known(path: str, asked: list[tuple[Any, ...]]) -> None:
    found = [(*each.steps, each.operator, *([each.operand] if each.operator else [])) for each in filter_tests(path)]
    assert found == asked


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("$.a[?@.b == 'j' or @.b == 'k']", "$.a[?@.b == 'j' || @.b == 'k']"),
        ("$.a[?@.b == 'j' AND @.c]", "$.a[?@.b == 'j' && @.c]"),
        ("$.a[?not @.b]", "$.a[?!@.b]"),
        ("$.a[?@.b == 'j' && (not @.c)]", "$.a[?@.b == 'j' && (!@.c)]"),
        ("$.a[?@.b <> 'j']", "$.a[?@.b != 'j']"),
        ("$.a[?@.b === 'x and y']", "$.a[?@.b == 'x and y']"),
        ("$.a[?@.b in ['j', 'k']]", "$.a[?(@.b == 'j' || @.b == 'k')]"),
        ("$.a[?@.b in ['j'] and not @.c]", "$.a[?@.b == 'j' && !@.c]"),
        ("$.a[?@.b == 'j'", "$.a[?@.b == 'j']"),
        ("$.a[0", "$.a[0]"),
        ("$.a.b.", "$.a.b"),
        ("$..", "$..*"),
    ],
)
def test_a_filter_in_another_language_is_answered_with_ours(text, meant):
    with pytest.raises(PathError) as caught:
        compile_checked(text, Vocabulary(), Paths())
    assert caught.value.hint == f"write {meant}"
    assert compile_checked(meant, Vocabulary(), Paths())


def test_a_constant_is_no_test_and_the_field_of_its_name_is_spelled_as_it_was():
    with pytest.raises(PathError, match="true alone is not a test") as caught:
        compile_checked("$.a[?true]", Vocabulary(), Paths())
    assert "@.true " in caught.value.hint
