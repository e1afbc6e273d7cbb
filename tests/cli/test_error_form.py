"""Every error has one form: ``error: …``, then what to do."""

from __future__ import annotations

import re

import pytest

from engine.testing import payloads
from tests.cli.conftest import Command


@pytest.mark.parametrize(
    ("line", "message", "usage"),
    [
        ("send", "give a FILE or --kind", "engine send [OPTIONS] [FILE]"),
        ("evnts", "No such command 'evnts'. Did you mean 'events'?", "engine [OPTIONS] COMMAND [ARGS]..."),
        ("destinations resume", "Missing argument 'NAME'.", "engine destinations resume [OPTIONS] NAME"),
        ("events --state unmatched", "Invalid value for '--state': an event", "engine events list [OPTIONS]"),
        ("--nonsense", "No such option", "engine [OPTIONS] COMMAND [ARGS]..."),
    ],
)
def test_a_mistake_in_a_command_line_reads_as_other_errors_do(
    engine: Command, line: str, message: str, usage: str
) -> None:
    first, *_, last = engine(*line.split(), expect=2).stderr.splitlines()
    assert first.startswith(f"error: {message}")
    name, _, rest = usage.partition(" ")
    assert re.fullmatch(rf"       usage: ({name}|cli) {re.escape(rest)}; --help says more", last)


def test_a_configuration_that_cannot_be_loaded_is_marked_as_check_marks_it(engine: Command) -> None:
    engine.write("secrets: none\nroutes: {'*': [{actions: [nope: {}]}], unmatched: 3}\n")
    checked = engine("check", expect=1).stderr
    served = engine("serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", expect=2).stderr
    assert served.count(": error: ") == checked.count(": error: ") >= 2
    assert served.splitlines()[-1] == "2 errors"


def test_a_route_without_a_name_stands_at_its_key(engine: Command) -> None:
    engine.write(
        f"secrets: none\nrules: {{chat: {payloads.RULE_ID}}}\nroutes:\n  chat:\n    enabled: false\n"
        "    filters: [{path: '$.runs[*].status', eq: error}]\n    actions: [log: {message: hi}]\n"
    )
    first, condition, action = engine("routes").stdout.splitlines()
    assert first.startswith("chat")
    assert first.endswith("  disabled")
    assert condition.startswith("├── if ")
    assert action.startswith("└── → log")
