"""libyaml's parser and the one in Python read every text alike: values, places, problems."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config.yaml import compose as yamlcompose
from engine.config.yaml.read import read_yaml
from engine.core.errors import ConfigError

ROOT = Path(__file__).parents[2]
TEXTS = [path.read_bytes() for path in sorted([*ROOT.glob("*.yaml"), *ROOT.glob("tests/**/*.yaml")])]
#: What YAML gives a meaning to, and what parsers disagree about.
PIECES = [
    *"\t \n\r:-?{}[],#&*!|>'\"\\%@`~",
    ": ", "- ", "? ", " #", "\r\n", "\u2028", "\u2029", "\x85", "\ufeff", "&a ", "*a", "*a ", "<<: ", "!!str ", "!x ",
    "! ", "|\n", ">\n", "|-\n", ">+\n", "|2\n", "\\x41", "\\\n", "%YAML 1.1\n---\n", "---\n", "...\n", "{a: }", "{a}",
    "[a: b]", "? a\n: b\n", "null", "é", "😀", "a:b", "!<x>", "&é ", "*a-b",
]  # fmt: skip


def reading(data):
    """All that reading comes to."""
    try:
        parsed = read_yaml(data, "c.yaml")
    except ConfigError as error:
        return str(error)
    return parsed.tree, parsed.empty, parsed.source.marks, parsed.source.problems


def both(data, monkeypatch):
    first = reading(data)
    with monkeypatch.context() as patch:
        patch.setattr(yamlcompose, "LIBYAML", None)
        return first, reading(data)


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML was built without libyaml")
def test_libyaml_reads_what_people_write():
    read = [yamlcompose.compose_fast(text.decode()) is not None for text in TEXTS if text.isascii()]
    assert read.count(True) > 0.5 * len(read) > 20
    assert yamlcompose.compose_fast((ROOT / "config.example.yaml").read_text()) is not None


def test_both_read_every_file_alike(monkeypatch):
    for text in TEXTS:
        first, second = both(text, monkeypatch)
        assert first == second, text


@pytest.mark.parametrize("seed", range(8))
def test_both_read_damaged_files_alike(seed, monkeypatch):
    chance = random.Random(seed)
    for _ in range(60):
        lines = chance.choice(TEXTS).decode("utf-8", "replace").splitlines(keepends=True) or [""]
        begin = chance.randrange(len(lines))
        text = "".join(lines[begin : begin + chance.randrange(1, 12)])
        for _ in range(chance.randrange(1, 4)):
            place = chance.randrange(len(text) + 1)
            text = text[:place] + chance.choice([*PIECES, ""]) + text[place + chance.choice([0, 0, 1]) :]
        first, second = both(text, monkeypatch)
        assert first == second, text


#: What ``_DIFFERS`` finds, in the words of the list of differences. Its own form is a faster one.
DIFFERS = re.compile(
    r"[\t\x85\u2028\u2029\ufeff]|^%|(?:^|[\s,\[{-])\?(?=[\s,}\]]|$)|(?:^|[\s,\[{:-])!(?!=)|(?:^|\s)[|>][-+0-9]*#",
    re.MULTILINE,
)


@given(st.text("\t\n\r\x85\ufeff %?!=:,[]{}-|>+2#a", max_size=8))
@settings(max_examples=2000)
def test_the_fast_search_for_what_differs_finds_the_same(text):
    assert bool(yamlcompose._DIFFERS.search(text)) == bool(DIFFERS.search(text))
