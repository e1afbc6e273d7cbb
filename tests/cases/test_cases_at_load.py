"""Cases that are settled when a configuration is loaded: refused or remarked with advice that works, or they match."""

from __future__ import annotations

from pathlib import Path

import pytest
from destination_cases import CASES

from engine.core.document import Fetched
from engine.core.errors import ConfigError
from engine.core.event import parse_event
from engine.rules.lint.configuration import lint
from engine.rules.reload import Loader

PASSWORD = "k9@Tr0ub4dor/3"


def written(case: str) -> str:
    return (CASES / case / "config.yaml").read_text()


def loader(folder: Path, text: str) -> Loader:
    path = folder / "config.yaml"
    path.write_text(text)
    return Loader(path, {"SMTP_PASS": PASSWORD})


def matched(folder: Path, case: str, text: str) -> list[str]:
    """The routes that match a case's payload."""
    event = parse_event((CASES / case / "payload.json").read_bytes(), 1_788_260_400.0)
    decisions = loader(folder, text).load().router.decide(event, Fetched()).decisions
    return [decision.route for decision in decisions if decision.fires]


def refused(folder: Path, text: str) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        loader(folder, text).load()
    return [(problem.message, problem.hint) for problem in caught.value.problems]


def test_case_02_the_engines_own_event_in_a_prompts_route_has_a_warning_with_the_path_that_works(
    tmp_path: Path,
) -> None:
    text = written("02")
    (remark,) = lint(loader(tmp_path, text).load())
    assert (remark.line, remark.hint) == (5, "write $.payload.event")
    assert matched(tmp_path, "02", text) == []
    assert matched(tmp_path, "02", text.replace("$.event", "$.payload.event")) == ["prompt"]


def test_case_05_a_password_that_would_divide_an_address_is_refused_and_its_advice_loads(tmp_path: Path) -> None:
    text = written("05")
    ((message, hint),) = refused(tmp_path, text)
    assert message == "${SMTP_PASS} holds @, which would divide the address within its password"
    assert hint == "write {{ '${SMTP_PASS}' | urlencode }}"
    assert not any(piece in message + hint for piece in ("k9", "Tr0ub4dor"))
    fixed = text.replace("bot:${SMTP_PASS}@", "bot:{{ '${SMTP_PASS}' | urlencode }}@")
    assert loader(tmp_path, fixed).load()


def test_case_07_costs_that_are_texts_compare_as_numbers_in_paths_too(tmp_path: Path) -> None:
    routes = matched(tmp_path, "07", written("07"))
    assert [route.rpartition("/")[2] for route in routes] == ["inside-the-path", "beside-the-path"]


def test_case_10_a_secret_with_what_stands_before_signatures_is_refused_and_its_advice_loads(tmp_path: Path) -> None:
    text = written("10")
    ((message, hint),) = refused(tmp_path, text)
    assert message == "'v1,' is not part of the secret: it precedes signatures"
    assert hint == 'write it from whsec_ on: signing_secrets: ["whsec_…"]'
    assert loader(tmp_path, text.replace("v1,whsec_", "whsec_")).load()


@pytest.mark.parametrize("number", ["012345678", "0x12345678", "1234567.50", "+123456789", "0o1234567"])
def test_case_11_a_secret_that_is_a_number_is_quoted_as_it_is_written(tmp_path: Path, number: str) -> None:
    text = written("11").replace("012345678", number)
    try:
        loaded = loader(tmp_path, text).load()
    except ConfigError as error:
        (problem,) = error.problems
        assert problem.hint == f'quote it: "{number}"'
        loaded = loader(tmp_path, text.replace(number, f'"{number}"')).load()
    assert loaded.config.secrets == (number,)


def test_case_16_a_template_as_an_operand_is_refused_with_the_expression_that_works(tmp_path: Path) -> None:
    text = written("16")
    for operand in ('in: ["{{ vars.names }}"]', 'in: "{{ vars.names }}"'):
        ((message, hint),) = refused(tmp_path, text.replace('in: ["{{ vars.names }}"]', operand))
        assert message == "an operand is compared as it is written: it cannot be a template"
        assert hint == 'write {expr: "run.name in vars.names"}'
    fixed = text.replace('{path: "$.runs[*].name", in: ["{{ vars.names }}"]}', hint.removeprefix("write "))
    assert len(matched(tmp_path, "16", fixed)) == 1


def test_case_19_a_name_outside_of_ascii_is_found_behind_a_dot_and_in_brackets(tmp_path: Path) -> None:
    text = written("19")
    assert len(matched(tmp_path, "19", text)) == 1
    assert len(matched(tmp_path, "19", text.replace(".質問", "['質問']"))) == 1
