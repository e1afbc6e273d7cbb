"""How the demo tells what happens: to people, with colours and in sections; to programs, one JSON object a line."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from engine.cli.demo.watch import Arrival, Ending, Place, Sent
from engine.cli.support.output import emit_line, page_width, print_problems, short_event
from engine.cli.support.show_explanation import print_report
from engine.cli.support.show_request import body_rows, hanging, print_message
from engine.core.errors import Problem
from engine.core.units import format_duration
from engine.rules.reload import LastReload

_MARKS = {"succeeded": ("✓", "green"), "again": ("↻", "yellow"), "dead": ("✗", "red")}


class Narrator(Protocol):
    """Whoever the demo speaks to."""

    def begins(self, place: Place) -> None:
        """Everything is up."""

    def opens(self, arrival: Arrival, status: int | None, seconds: float) -> None:
        """The opening webhook went through."""

    def repeats(self, arrival: Arrival | None, status: int | None, requests: int) -> None:
        """It was sent a second time, and so many requests followed."""

    def sums_up(self, ending: Ending) -> None:
        """The opening is over."""

    def hands_over(self, place: Place) -> None:
        """From here on the person acts."""

    def arrives(self, arrival: Arrival) -> None:
        """Another webhook went through, or was a duplicate."""

    def attempts(self, event: str, sent: Sent) -> None:
        """Something was tried again, or took long."""

    def reloads(self, last: LastReload) -> None:
        """The rules were edited."""

    def leads_on(self, place: Place) -> None:
        """How to go on after the demo."""

    def ends(self, kept: Path | None) -> None:
        """The demo is over; the folder is kept where it has something in it that somebody wrote."""


class ToPeople:
    """Sections on a console."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._width = page_width(console)

    def begins(self, place: Place) -> None:
        """A title, and where the rules are."""
        self._console.print(Text("engine demo", style="bold green"))
        self._console.print(Text("The real engine. LangSmith, Slack and a webhook's receiver are stand-ins here."))
        self._console.print(Text.assemble("Its rules: ", (str(place.rules), "cyan")), soft_wrap=True)
        if place.own:
            self._console.print(Text("They are your own: what they do is judged, not the demo's four actions."))

    def opens(self, arrival: Arrival, status: int | None, seconds: float) -> None:
        """Three sections: what came, why which route matched, what was sent."""
        self._section("1  LangSmith sends a webhook")
        self._came(arrival, status, seconds)
        self._section("2  Which routes match, and why")
        print_report(self._console, dict(arrival.report))
        self._section("3  What was sent, and what came back")
        self._deliveries(arrival.sent, runs=arrival.report["event"]["runs"])

    def repeats(self, arrival: Arrival | None, status: int | None, requests: int) -> None:
        """One more section, of one line."""
        self._section("4  LangSmith sends the same webhook again")
        known = arrival is not None and arrival.duplicate
        words = "duplicate: true" if known else "not recognised as a duplicate"
        fired = "nothing fired twice" if not requests else f"{requests} more requests were made"
        style = "green" if known and not requests else "bold red"
        self._console.print(Text.assemble(_status(status), "  ", (f"{words}, {fired}", style)))

    def sums_up(self, ending: Ending) -> None:
        """One line; where something is missing, a line for each."""
        self._console.print()
        for route, why in ending.muted.items():
            self._console.print(Text.assemble((f"{route}: ", "bold yellow"), f"{why}; its actions were not done"))
        if ending.good:
            self._console.print(Text(f"✓ {ending.words}", style="bold green"))
            return
        if not ending.matched:
            self._console.print(Text("✗ no route matched: section 2 says why", style="bold red"))
        for action, why in ending.missing.items():
            self._console.print(Text.assemble((f"✗ {action}: ", "bold red"), why))
        for trouble in ending.troubles:
            self._console.print(Text.assemble(("✗ ", "bold red"), trouble))
        if ending.repeated:
            self._console.print(Text(f"✗ the duplicate led to {ending.repeated} requests", style="bold red"))

    def hands_over(self, place: Place) -> None:
        """What can be tried now, as lines to paste."""
        self._section("Your turn")
        self._line("Edit the rules; what you save acts at once:")
        self._paste(str(place.rules))
        self._line("Send a webhook of two other runs (pasted twice it is a duplicate):")
        self._paste(*_sending(place))
        self._line("Look at what happened, from another terminal in this folder:")
        activate = [place.elsewhere] if place.elsewhere else []
        self._paste(*activate, *(f"{place.command} {word} --admin {place.admin}" for word in ("events", "deliveries")))
        for name, value in (("Admin API", f"{place.admin}/api/v1/events"), ("Log", place.log), ("End", "Ctrl-C")):
            self._console.print(Text.assemble((f"{name:<11}", "dim"), str(value)), soft_wrap=True)

    def arrives(self, arrival: Arrival) -> None:
        """A section of its own; a duplicate is one line."""
        if arrival.duplicate:
            words = f"{short_event(arrival.event)} came again: duplicate: true, nothing fires"
            self._console.print(Text(f"\n{words}", style="yellow"))
            return
        self._section(f"{arrival.kind}  {short_event(arrival.event)}")
        print_report(self._console, dict(arrival.report))
        if arrival.sent:
            self._console.print()
        self._deliveries(arrival.sent, runs=arrival.report["event"]["runs"])

    def attempts(self, event: str, sent: Sent) -> None:
        """As in a section, with the event's id."""
        self._console.print(Text(f"\n{short_event(event)}", style="dim"))
        self._deliveries([sent])

    def reloads(self, last: LastReload) -> None:
        """One line, or every problem with its place."""
        self._console.print()
        if last.good:
            self._console.print(Text("✓ rules reloaded: they act from now on", style="green"))
            return
        print_problems(self._console, last.problems, word="error", mark="error")
        self._console.print(Text("the previous rules stay in use", style="yellow"))

    def ends(self, kept: Path | None) -> None:
        """One line, where there is something to say."""
        if kept is not None:
            self._console.print(Text(f"\nended; your files are kept in {kept}", style="dim"), soft_wrap=True)

    def leads_on(self, place: Place) -> None:
        """How to have the command, and rules of one's own."""
        self._console.print()
        if place.activate:
            self._line("To have the engine command in a terminal:")
            self._paste(place.activate)
        self._line("Your own rules, without an account: engine sandbox (README.md, first steps)")

    # Parts

    def _section(self, title: str) -> None:
        self._console.print()
        self._console.print(Rule(Text(title, style="bold"), align="left", style="dim"), width=self._width)

    def _line(self, words: str) -> None:
        self._console.print(Text(words))

    def _paste(self, *lines: str) -> None:
        """As it is, however long: a line that is broken cannot be pasted."""
        for line in lines:
            self._console.print(Text(f"  {line}", style="cyan"), soft_wrap=True)
        self._console.print()

    def _came(self, arrival: Arrival, status: int | None, seconds: float) -> None:
        self._console.print(Text("→ POST /webhooks/langsmith?secret=…"))
        about = arrival.report["event"]
        rule = f"{about['rule']} ({about['rule_id']})" if about["rule"] else about["rule_id"]
        rows = [("rule", rule) if rule else ("kind", about["kind"]), *_runs(arrival.report)]
        for name, value in rows:
            self._cut(Text.assemble((f"    {name:<7}", "dim"), value))
        answer = f"  event {short_event(arrival.event)}, duplicate: false"
        took = (f"  {format_duration(seconds)}", "dim")
        self._cut(Text.assemble("← ", _status(status), answer, took))

    def _deliveries(self, sent: Sequence[Sent], *, runs: int = 1) -> None:
        for number, one in enumerate(sent):
            if number:
                self._console.print()
            self._cut(_headline(one, of_many=runs > 1))
            if one.reason:
                self._console.print(Text(f"  {one.reason}", style=_MARKS[one.outcome][1]), width=self._width)
            for request in one.requests:
                self._request(request)
            if not one.requests and one.result:
                self._cut(Text(f"  {_brief(one.result)}", style="dim"))

    def _request(self, request: Mapping[str, Any]) -> None:
        """Where to and what, whole, a line or several for each key; then the answer, on one line."""
        head = Text.assemble(("  → ", "dim"), (request["service"], ""), f"  {request['method']} ")
        head.append(_short_path(request["path"]))
        self._cut(head)
        message = print_message(self._console, request["service"], request["sent"], self._width, indent=6)
        rows = body_rows(request["sent"])
        for line in hanging(rows, self._width, indent=6, style="dim" if message else "cyan"):
            self._console.print(line, soft_wrap=True)
        self._cut(Text.assemble(("  ← ", "dim"), _status(request["status"]), f"  {_brief(request['answer'])}"))

    def _cut(self, line: Text) -> None:
        line.truncate(self._width, overflow="ellipsis")
        self._console.print(line, soft_wrap=True)


class ToPrograms:
    """One JSON object a line, each with its ``type``."""

    def begins(self, place: Place) -> None:
        """``serving``: where everything is."""
        self._emit("serving", rules=place.rules, own=place.own, log=place.log, webhook=place.webhook, admin=place.admin)

    def opens(self, arrival: Arrival, status: int | None, seconds: float) -> None:
        """``answered``, then ``event`` and its ``delivery`` lines."""
        self._emit("answered", event=arrival.event, status=status, seconds=seconds)
        self.arrives(arrival)

    def repeats(self, arrival: Arrival | None, status: int | None, requests: int) -> None:
        """``repeated``: the duplicate, and how many requests followed."""
        known = arrival is not None and arrival.duplicate
        self._emit("repeated", status=status, duplicate=known, requests=requests)

    def sums_up(self, ending: Ending) -> None:
        """``summary``."""
        self._emit(
            "summary",
            good=ending.good,
            seen=list(ending.seen),
            missing=dict(ending.missing),
            muted=dict(ending.muted),
            waiting=ending.waiting,
            matched=ending.matched,
            repeated=ending.repeated,
            troubles=list(ending.troubles),
            seconds=ending.seconds,
        )

    def hands_over(self, place: Place) -> None:
        """``waiting``: a webhook to send by hand."""
        self._emit("waiting", file=place.encore, webhook=place.webhook)

    def arrives(self, arrival: Arrival) -> None:
        """``event`` and its ``delivery`` lines."""
        self._emit("event", event=arrival.event, kind=arrival.kind, bytes=arrival.size, duplicate=arrival.duplicate,
                   report=arrival.report)  # fmt: skip
        for sent in arrival.sent:
            self.attempts(arrival.event, sent)

    def attempts(self, event: str, sent: Sent) -> None:
        """``delivery``."""
        self._emit("delivery", event=event, **{name: getattr(sent, name) for name in Sent.__slots__})

    def reloads(self, last: LastReload) -> None:
        """``reload``."""
        self._emit("reload", good=last.good, problems=[_problem(problem) for problem in last.problems])

    def leads_on(self, place: Place) -> None:
        """Programs need no advice."""

    def ends(self, kept: Path | None) -> None:
        """``ended``."""
        self._emit("ended", kept=kept)

    def _emit(self, type_: str, **facts: Any) -> None:
        emit_line({"type": type_, **facts})


def _problem(problem: Problem) -> dict[str, Any]:
    return {"place": problem.place, "text": str(problem)}


def _sending(place: Place) -> list[str]:
    """The lines that send the other webhook: curl's, or with a secret of one's own the command's."""
    if not place.own:
        return [f"curl -d {shlex.quote(f'@{place.encore}')} \\", f"  {shlex.quote(place.webhook)}"]
    to = place.webhook.partition("?")[0]
    secret = f" --secret {place.secret}" if place.secret else ""
    rule = f" --rule {shlex.quote(place.rule)}" if place.rule else ""
    return [f"{place.command} send {shlex.quote(str(place.encore))}{rule} \\", f"  --to {to}{secret}"]


def _headline(sent: Sent, *, of_many: bool) -> Text:
    mark, style = _MARKS[sent.outcome]
    named = sent.action_type if sent.action_type == sent.action else f"{sent.action_type} {sent.action}"
    tail = f"  {format_duration(sent.seconds)}"
    if sent.number > 1:
        tail = f"  attempt {sent.number}{tail}"
    if sent.again_in is not None:
        tail += f", again in {format_duration(sent.again_in)}"
    run = f"  run {sent.index}" if of_many and sent.index >= 0 else ""
    return Text.assemble((f"{mark} ", style), (named, "bold"), (f"  {sent.route}{run}{tail}", "dim"))


def _runs(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The runs in a few words each, as the report's documents know them."""
    runs = {document["index"]: document["run"] for document in report["documents"] if document["run"]}
    return [(f"run {index}", f"{run['name']} · {run['status']} · {run['id']}") for index, run in runs.items()]


def _status(status: int | None) -> Text:
    if not status:
        return Text("no answer", style="bold red")
    return Text(str(status), style="bold green" if 200 <= status < 300 else "bold red")


def _short_path(path: str) -> str:
    """Without the middle of the ids in it."""
    return "/".join(f"{part[:8]}…" if len(part) == 36 and part.count("-") == 4 else part for part in path.split("/"))


def _brief(value: Any) -> str:
    """A value on one line: a text as it is, anything else as JSON."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return " ".join(text.split())
