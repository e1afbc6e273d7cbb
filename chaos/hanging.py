"""All destinations hang while 200 events a second arrive: accepting stays as fast, and then everything is delivered.

What is simulated: the engine's timeouts and delays are sixty times as short (``hanging.yaml``), so that its attempts
and retries come as often in ten seconds as they would in ten minutes. What is not: the arrivals, 200 real ones a
second, for what acceptance suffers from is the pressure of a moment; and the circuits' own times, which are the
engine's and no one's to set. Ten minutes of arrivals would leave 120,000 events: that many wait in ``backlog.py``.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from chaos.kills import SECRET, drained, free_ports, is_trouble, unforeseen
from chaos.serving import Serve
from chaos.table import Row
from engine.testing import LangSmithStandIn, SlackStandIn, WebhookSink, payloads
from engine.testing.server import StandIn

RULES = Path(__file__).with_name("hanging.yaml")
RATE = 200
#: Seconds of each phase. 15 s are 15 minutes of the engine's time.
CALM, HANG = 5.0, 15.0
#: The largest accepted factor of the median time to accept.
SLOWER = 1.5
#: How much memory may grow over the second half of the hang, in MB: 1500 events and their deliveries.
GROWTH = 16.0
#: The longest time from recovery until all is delivered, in seconds, with the circuit breakers' last pause.
DRAIN = 180.0


@dataclass(frozen=True, slots=True)
class Phase:
    """The result of one phase: seconds to each 202, other answers, memory in MB in the middle and at the end."""

    seconds: list[float]
    refused: int
    middle: float
    end: float

    @property
    def median(self) -> float:
        """In milliseconds."""
        return statistics.median(self.seconds) * 1e3

    @property
    def p99(self) -> float:
        """In milliseconds."""
        return statistics.quantiles(self.seconds, n=100)[98] * 1e3


async def run() -> list[Row]:
    """Run three phases, with the hang in the middle; return the rows of the table."""
    langsmith, slack, hooks = LangSmithStandIn(), SlackStandIn(), WebhookSink()
    async with AsyncExitStack() as stack:
        for one in (langsmith, slack, hooks):
            await stack.enter_async_context(one)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        serve = _serve(folder, langsmith, slack, hooks)
        stack.push_async_callback(serve.kill)
        await serve.start()
        arrivals = Arrivals(serve, await stack.enter_async_context(aiohttp.ClientSession()))
        await arrivals.come(2.0)  # the first requests import modules and open connections
        before = await arrivals.come(CALM)
        hang(langsmith, slack, hooks)
        hung = await arrivals.come(HANG)
        heal(langsmith, slack, hooks)
        healed_at = time.monotonic()
        all_made = await drained(serve, DRAIN)
        seconds = time.monotonic() - healed_at
        after = await arrivals.come(CALM)
        all_made = await drained(serve, DRAIN) and all_made
        made = _good(hooks), len({one.text for one in slack.messages}), len(langsmith.feedback)
        await serve.terminate()
        return _rows(before, hung, after, made, arrivals.count, seconds, all_made=all_made) + [
            Row(f"  {line}", "", good=False) for line in unforeseen(serve)
        ]


class Arrivals:
    """Sends events of one run each at an even pace."""

    def __init__(self, serve: Serve, http: aiohttp.ClientSession) -> None:
        self._serve, self._http = serve, http
        self.count = 0

    async def come(self, seconds: float) -> Phase:
        """Send for so long, and wait for every answer."""
        started, first, middle = time.monotonic(), self.count, 0.0
        tasks: list[asyncio.Task[tuple[int, float]]] = []
        while time.monotonic() < started + seconds:
            tasks.append(asyncio.create_task(self._one(self.count)))
            self.count += 1
            if not middle and time.monotonic() > started + seconds / 2:
                middle = memory(self._serve)
            await asyncio.sleep(max(0.0, started + (self.count - first) / RATE - time.monotonic()))
        answers = await asyncio.gather(*tasks)
        good = [taken for status, taken in answers if status == 202]
        return Phase(good, len(answers) - len(good), middle, memory(self._serve))

    async def _one(self, number: int) -> tuple[int, float]:
        body = payloads.to_body(payloads.rule([payloads.run(number)]))
        started = time.perf_counter()
        async with self._http.post(self._serve.url(SECRET), data=body) as response:
            await response.read()
            return response.status, time.perf_counter() - started


def hang(*destinations: StandIn) -> None:
    """Let no destination answer from now on."""
    for one in destinations:
        one.faults.add(hang=3600.0, status=503, times=None)


def heal(*destinations: StandIn) -> None:
    """Let all of them answer again."""
    for one in destinations:
        one.faults.clear()


def memory(serve: Serve) -> float:
    """Memory of the process in MB, or 0 if the system does not tell."""
    try:
        status = Path(f"/proc/{serve.pid}/status").read_text()
    except OSError:
        return 0.0
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def _serve(folder: Path, langsmith: LangSmithStandIn, slack: SlackStandIn, hooks: WebhookSink) -> Serve:
    environ = {"LANGSMITH_ENDPOINT": langsmith.url, "SLACK_ENDPOINT": slack.url, "HOOKS": hooks.origin}
    return Serve(RULES, folder / "data", {"SECRET": SECRET, **environ}, ports=free_ports(), keep=is_trouble)


def _good(hooks: WebhookSink) -> int:
    return len({one.headers["webhook-id"] for one in hooks.received if one.status == 200})


def _rows(
    before: Phase, hung: Phase, after: Phase, made: tuple[int, int, int], events: int, seconds: float, *, all_made: bool
) -> list[Row]:
    calm = Phase(before.seconds + after.seconds, 0, 0.0, 0.0)
    ratio, growth = hung.median / calm.median, hung.end - hung.middle
    forwarded, posted, annotated = made
    refused = before.refused + hung.refused + after.refused
    return [
        Row("every destination hangs: events meanwhile", f"{len(hung.seconds):,}", f"{RATE}/s for {HANG:g} s"),
        Row("  not accepted", f"{refused}", "must be 0", refused == 0),
        Row(
            "  acceptance, median: hanging beside healthy",
            f"{hung.median:.1f} / {calm.median:.1f} ms",
            f"at most {SLOWER:g} times",
            ratio <= SLOWER,
        ),
        Row("  acceptance, 99 of 100 within", f"{hung.p99:.1f} / {calm.p99:.1f} ms"),
        Row("  memory grew, in the second half", f"{growth:.1f} MB", f"at most {GROWTH:g} MB", growth <= GROWTH),
        Row("  forwarded once they were well", f"{forwarded:,} of {events:,}", "must be all", forwarded == events),
        Row("  posted and annotated, of a tenth", f"{posted:,} / {annotated:,}", "the same", posted == annotated > 0),
        Row("  nothing waits any more, after", f"{seconds:.0f} s", f"within {DRAIN:g} s", all_made),
    ]
