"""Remarks about what is legal but hardly meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.rules.lint.configuration import lint
from engine.rules.reload import Loader


@pytest.mark.parametrize(
    ("secrets", "columns"),
    [("[abc, long-enough-secret, abcdefg]", [11, 36]), ("abc", [1]), ("long-enough", []), ("none", [])],
)
def test_a_secret_that_can_be_found_by_trying_has_a_warning(tmp_path: Path, secrets: str, columns: list[int]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"secrets: {secrets}\nroutes: {{}}\n")
    remarks = lint(Loader(path, {}).load())
    assert [(remark.line, remark.column) for remark in remarks] == [(1, column) for column in columns]
    assert all("it can be found by trying" in remark.message and "openssl" in remark.hint for remark in remarks)


@pytest.mark.parametrize(
    ("settings", "remarked"),
    [
        ("{trace_retention: 181d}", True),
        ("{trace_retention: 180d}", False),
        ("{trace_retention: 400d, endpoint: 'https://langsmith.example.com/api'}", False),
        ("{trace_retention: 400d, endpoint: 'https://eu.api.smith.langchain.com'}", True),
    ],
)
def test_a_longer_retention_than_the_clouds_has_a_warning(tmp_path: Path, settings: str, remarked: bool) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"secrets: none\nlangsmith: {settings}\nroutes:\n  alert: {{stop: true}}\n")
    remarks = lint(Loader(path, {}).load())
    assert [(one.line, one.column) for one in remarks] == ([(2, 13)] if remarked else [])
    assert all("180 days at most" in one.message and "remove it" in one.hint for one in remarks)


FOLDER = Path(__file__).parent / "warnings"
FILES = sorted(FOLDER.glob("*.yaml"), key=lambda path: path.name)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_is_hardly_meant_gets_the_expected_warnings(path: Path) -> None:
    """The whole text is compared, as people read it."""
    remarks = lint(Loader(path, {}).load())
    assert (
        "".join(f"{remark}\n" for remark in remarks).replace(f"{FOLDER}/", "")
        == path.with_suffix(".expected").read_text()
    )


def test_the_example_has_no_warning_but_its_disabled_route() -> None:
    remarks = lint(Loader(Path(__file__).parents[3] / "config.example.yaml", {}).load())
    assert ["is disabled" in remark.message for remark in remarks] == [True]


def test_what_is_not_installed_is_a_warning_and_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example must load after a plain install; installing the rest heals what waits."""
    monkeypatch.setattr("actions.notify.find_spec", lambda name: None)
    path = tmp_path / "config.yaml"
    path.write_text(
        "secrets: none\nroutes:\n  alert:\n    actions:\n      - notify: {urls: 'json://localhost', body: x}\n"
    )
    [remark] = lint(Loader(path, {}).load())
    assert (remark.line, remark.column) == (5, 9)
    assert (remark.message, remark.hint) == ("notify needs Apprise", "pip install 'langsmith-rules-engine[notify]'")


@pytest.mark.parametrize(
    ("key", "condition", "advised"),
    [
        ("prompt", '{path: "$.event", eq: commit}', '{path: "$.payload.event", eq: commit}'),
        ("prompt", "{expr: \"event == 'commit'\"}", "{expr: \"payload.event == 'commit'\"}"),
        ("R", '{path: "$.run.status", eq: failed}', '{path: "$.run.status", eq: error}'),
        ("R", '{path: "$.run.tags", eq: a}', '{path: "$.run.tags[*]", eq: a}'),
        ("R", "{expr: run.tags, eq: a}", "{expr: run.tags, contains: a}"),
        ("R", "{expr: \"run.tags == 'a'\"}", "{expr: \"'a' in run.tags\"}"),
        ("R", '{path: "$.feedback_stats.x", lt: 1}', '{path: "$.feedback_stats.x.avg", lt: 1}'),
        ("R", '{path: "$.run.name", eq: [a, b]}', '{path: "$.run.name", in: [a, b]}'),
        ("R", '{path: "$.run.name", ne: [a, b]}', '{path: "$.run.name", not_in: [a, b]}'),
        ("R", '{path: "$.run.name", matches: /a/i}', "{path: \"$.run.name\", matches: '(?i)a'}"),
        ("R", '{path: "$.run.name", eq: 1.10}', '{path: "$.run.name", eq: "1.10"}'),
        ("R", "{path: \"$.runs[?@.tags == 'a']\", count: 1}", "{path: \"$.runs[?@.tags[?@ == 'a']]\", count: 1}"),
    ],
)
def test_the_advice_of_a_warning_has_no_warning(tmp_path: Path, key: str, condition: str, advised: str) -> None:
    assert remarks_on(tmp_path, key, condition, "hello")
    assert not remarks_on(tmp_path, key, advised, "hello")


@pytest.mark.parametrize(
    ("key", "message", "advised"),
    [
        ("R", "x {{ run.error }}", "x {{ run.error | default('…') }}"),
        ("R", "{{ run.cost | round(2) }}.", "{{ run.cost | default(0) | round(2) }}."),
        ("prompt", "{{ event }}", "{{ payload.event }}"),
        ("'*'", "{{ run.name }}", "{{ run.name | default('-') }}"),
    ],
)
def test_the_advice_of_a_warning_for_a_template_has_no_warning(
    tmp_path: Path, key: str, message: str, advised: str
) -> None:
    assert remarks_on(tmp_path, key, '{path: "$.id", exists: true}', message)
    assert not remarks_on(tmp_path, key, '{path: "$.id", exists: true}', advised)


def remarks_on(folder: Path, key: str, condition: str, message: str) -> list[str]:
    """The remarks about one route with one condition and one message; ``R`` is a rule."""
    rule = "d75d7417-0c57-4655-88fe-1db3cda3a47a" if key == "R" else key
    path = folder / "config.yaml"
    action = f'{{log: {{message: "{message}"}}}}'
    path.write_text(f"secrets: none\nroutes:\n  {rule}: {{filters: [{condition}], actions: [{action}]}}\n")
    return [remark.message for remark in lint(Loader(path, {}).load())]
