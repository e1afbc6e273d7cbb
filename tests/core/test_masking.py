"""Masking: in whatever form a secret shows up."""

from __future__ import annotations

import base64
import html
import json
import timeit
from collections.abc import Callable
from functools import partial
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from engine.core.masking import MOST_REMEMBERED, Masker, shortened

SECRET = 'p@ss/word "42"'


def test_a_secret_is_masked_alone_within_text_in_urls_and_in_json() -> None:
    masker = Masker([SECRET])
    assert masker.text(SECRET) == "***"
    assert masker.text(f"before {SECRET} after") == "before *** after"
    assert masker.text("https://h/?k=p%40ss%2Fword%20%2242%22&x=1") == "https://h/?k=***&x=1"
    assert masker.text(json.dumps({"k": SECRET})) == '{"k": "***"}'


def test_a_short_secret_is_masked_only_where_it_stands_alone() -> None:
    masker = Masker(["a"])
    assert masker.text("a") == "***"
    assert masker.text("banana") == "banana"


def test_a_tree_is_masked_in_values_and_keys_and_left_as_it_was() -> None:
    tree = {"x": [SECRET, 5, None], SECRET: {"y": f"={SECRET}"}}
    assert Masker([SECRET]).tree(tree) == {"x": ["***", 5, None], "***": {"y": "=***"}}
    assert tree["x"][0] == SECRET


@pytest.mark.parametrize("container", [lambda item: [item], lambda item: (item,), lambda item: {SECRET: item}])
def test_a_tree_of_any_depth_is_masked(container: Callable) -> None:
    tree: object = SECRET
    for _ in range(5000):
        tree = container(tree)
    masked = Masker([SECRET]).tree(tree)
    for _ in range(5000):
        assert len(masked) == 1
        masked = masked["***"] if isinstance(masked, dict) else masked[0]
    assert masked == "***"


def test_of_a_tree_only_texts_and_keys_that_are_texts_change() -> None:
    tree = {1: "a", None: (b"x", 2.5), "e": [], "m": {}}
    assert Masker([SECRET]).tree(tree) == {1: "a", None: [b"x", 2.5], "e": [], "m": {}}


def test_two_maskers_together_mask_what_either_does() -> None:
    both = Masker(["first-secret"]) | Masker(["second-secret"])
    assert both.text("first-secret second-secret") == "*** ***"


def test_the_empty_text_is_no_secret() -> None:
    assert Masker([""]).text("nothing to hide") == "nothing to hide"


@given(st.text(min_size=5), st.text(), st.text())
def test_no_secret_survives_in_any_text(secret: str, before: str, behind: str) -> None:
    masked = Masker([secret]).text(before + secret + behind)
    assert "***" in masked
    assert not any(secret in part for part in masked.split("***"))


@pytest.mark.parametrize(
    "form", [SECRET, quote(SECRET, safe=""), json.dumps(SECRET)[1:-1], base64.b64encode(SECRET.encode()).decode()]
)
def test_what_a_cut_leaves_of_a_secret_is_masked(form: str) -> None:
    masker = Masker([SECRET, "xoxb-another"])
    for length in range(5, len(form) - 3):
        cut = shortened("say " + form + " and more", 4 + length + 1)
        assert masker.text(cut) == "say ***…", cut
        assert masker.text(f"{cut} (12 more)\n{cut}") == "say ***… (12 more)\nsay ***…"


def test_a_cut_that_hits_no_secret_changes_nothing() -> None:
    masker = Masker([SECRET, "https://hooks.slack.com/services/T0/B0/xyz"])
    for text in ("…", "a … b…", "https… //", "p@ss/… and https://hooks.slack.org…", "p@ss/word is no cut"):
        assert masker.text(text) == text.replace("p@ss/…", "***…").replace("https…", "***…")


def test_a_secret_of_several_lines_is_masked_in_a_text_whose_lines_were_joined() -> None:
    secret = "-----BEGIN KEY-----\nabc\n-----END KEY-----\n"
    assert Masker([secret]).text("it said " + " ".join(secret.split())) == "it said ***"


def test_many_cuts_take_no_longer_than_the_text_is_long() -> None:
    masker = Masker(["ab" * 3000])
    for text in ("ab" * 2000 + "…" + "ababa…x" * 5000, "ababa" * 40_000 + "…"):
        assert timeit.timeit(partial(masker.text, text), number=1) < 2


@pytest.mark.parametrize(
    "form",
    [
        quote(SECRET, safe=""),
        quote(SECRET),
        quote_plus(SECRET),
        quote(SECRET, safe="").replace("%2F", "%2f"),
        quote_plus(SECRET).lower(),
        str(URL("http://h/") / SECRET).rpartition("h/")[2],
        str(URL("http://h/").with_query(k=SECRET)).rpartition("k=")[2],
        html.escape(SECRET),
        repr(SECRET)[1:-1],
        json.dumps(SECRET)[1:-1],
    ],
)
def test_a_secret_is_masked_however_it_was_written_into_a_text(form: str) -> None:
    assert Masker([SECRET]).text(f"before {form} behind") == "before *** behind"


def test_what_is_not_ascii_is_masked_escaped_and_not() -> None:
    masker = Masker(["pässwörd\U0001f511"])
    assert masker.text(json.dumps("pässwörd\U0001f511")) == '"***"'
    assert masker.text("é pässwörd\U0001f511 é") == "é *** é"
    assert masker.text(quote("pässwörd\U0001f511")) == "***"


@pytest.mark.parametrize("before", ["", "u", "us", "usr", "user:"])
@pytest.mark.parametrize("behind", ["", "x", "xy", "xyz"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_secret_is_masked_in_base64_wherever_it_lies(before: str, behind: str, encode: Callable) -> None:
    secret = "hunter2>>??hunter2"
    encoded = encode(f"{before}{secret}{behind}".encode()).decode()
    masked = Masker([secret]).text(f"Authorization: Basic {encoded}")
    assert "***" in masked
    kept = masked.removeprefix("Authorization: Basic ").partition("***")
    assert encoded.startswith(kept[0])
    assert encoded.endswith(kept[2])
    # What is left at either side was determined by what stands beside the secret, too.
    assert len(kept[0]) <= -(-len(before) * 8 // 6)
    assert len(kept[2]) <= -(-len(behind) * 8 // 6) + 4


def test_a_secret_of_any_bytes_is_masked() -> None:
    secret = b"\xff\xfesecret\x80".decode("utf-8", "surrogateescape")
    masker = Masker([secret, "half\ud800half"])
    assert masker.text(f"is {secret}") == "is ***"
    assert masker.text(quote(secret.encode("utf-8", "surrogateescape"))) == "***"
    assert masker.text("a half\ud800half b") == "a *** b"


def test_of_secrets_that_overlap_the_longest_is_masked() -> None:
    assert Masker(["token", "token-and-more"]).text("x token-and-more token") == "x *** ***"


def test_over_many_reloads_the_newest_secrets_are_remembered() -> None:
    masker = Masker(["the-very-first"])
    for number in range(0, MOST_REMEMBERED * 2, 100):
        masker = masker | Masker(f"secret-number-{number + i:04}" for i in range(100))
    assert masker.text("the-very-first") == "the-very-first"
    assert masker.text(f"secret-number-{MOST_REMEMBERED * 2 - 1:04}") == "***"
    assert masker.text("secret-number-0000") == "secret-number-0000"


def test_a_secret_in_use_is_never_forgotten() -> None:
    many = [f"secret-number-{number:04}" for number in range(MOST_REMEMBERED + 50)]
    masker = Masker(["the-very-first"]) | Masker(many)
    assert all(masker.text(secret) == "***" for secret in many)


def test_with_nothing_new_the_masker_stays_the_same() -> None:
    masker = Masker(["one-secret", "two-secret"])
    assert (masker | Masker(["one-secret"])) is masker


def test_masking_takes_a_few_microseconds_however_many_secrets_there_are() -> None:
    text = "delivery succeeded event=0198d6a0-0000-7000 route=corrections/low seconds=0.1 " * 10
    masker = Masker(f"secret-number-{number}" for number in range(200))
    masker.text(text)
    best = min(timeit.repeat(lambda: masker.text(text), number=20, repeat=5)) / 20
    assert best < 200e-6
