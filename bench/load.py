"""Load on a server: by wrk where it is installed, else by our own generator, several processes of it."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.bodies import MOST, Shape, request_template
from bench.processes import BenchError, Helper

PROCESSES = 2


@dataclass(frozen=True, slots=True)
class Load:
    """``seconds`` of requests over so many connections, with bodies from number ``first`` to before ``end``."""

    port: int
    path: str
    shape: Shape
    first: int
    end: int
    seconds: float
    connections: int


@dataclass(frozen=True, slots=True)
class Result:
    """``started`` and ``ended`` are monotonic times; ``busy`` is how much of a core the busiest process took.

    ``others`` counts answers of another status than expected, and ``lost`` requests without an answer.
    """

    started: float
    ended: float
    answered: int
    others: int
    lost: int
    busy: float

    @property
    def rate(self) -> float:
        """Expected answers a second."""
        return self.answered / (self.ended - self.started)


def generator_name(*, own: bool) -> str:
    """Which generator makes the load."""
    return "wrk" if shutil.which("wrk") and not own else f"bench.generator, {PROCESSES} processes"


def run(load: Load, status: int, *, own: bool) -> Result:
    """Make load; answers of ``status`` are the expected ones. ``own`` leaves wrk aside."""
    if shutil.which("wrk") and not own:
        return _run_wrk(load)
    return _run_own(load, status)


def _run_own(load: Load, status: int) -> Result:
    with contextlib.ExitStack() as stack:
        plans = [_plan(load, process) for process in range(PROCESSES)]
        helpers = [stack.enter_context(Helper("bench.generator", json.dumps(plan))) for plan in plans]
        for helper in helpers:
            helper.read()
        for helper in helpers:
            helper.say("go")
        return combined([json.loads(helper.read()) for helper in helpers], status)


def _plan(load: Load, process: int) -> dict:
    own = {"first": load.first + process, "step": PROCESSES, "connections": load.connections // PROCESSES}
    return {**asdict(load), **own}


def combined(tallies: list[dict], status: int) -> Result:
    """One result of what each process counted."""
    started = min(tally["started"] for tally in tallies)
    ended = max(tally["ended"] for tally in tallies)
    if ended <= started:
        raise BenchError("no request was answered")
    answers = [(int(key), count) for tally in tallies for key, count in tally["statuses"].items()]
    return Result(
        started,
        ended,
        answered=sum(count for key, count in answers if key == status),
        others=sum(count for key, count in answers if key != status),
        lost=sum(tally["lost"] for tally in tallies),
        busy=max(tally["cpu"] for tally in tallies) / (ended - started),
    )


def _run_wrk(load: Load) -> Result:
    """wrk counts whole seconds, and forgets the answers that come after its time."""
    with tempfile.NamedTemporaryFile() as template:
        template.write(request_template(load.shape, load.path))
        template.flush()
        seconds, stride = math.ceil(load.seconds), (load.end - load.first) // PROCESSES
        command = ["wrk", f"-t{PROCESSES}", f"-c{load.connections}", f"-d{seconds}s", "--timeout", "60s"]
        script, url = Path(__file__).with_name("wrk.lua"), f"http://127.0.0.1:{load.port}{load.path}"
        command += ["-s", str(script), url, "--", template.name, str(load.first), str(stride)]
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        output = process.stdout.read()
        _, code, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(code)
    return _of_wrk(output, started, (usage.ru_utime + usage.ru_stime) / PROCESSES)


def _of_wrk(output: str, started: float, cpu: float) -> Result:
    """A result of what wrk.lua printed. ``cpu`` is in seconds for each thread.

    Raises:
        BenchError: it printed no result.
    """
    lines = [line for line in output.splitlines() if line.startswith('{"answered"')]
    if not lines:
        raise BenchError(f"wrk gave no result:\n{output[-2000:]}")
    told = json.loads(lines[-1])
    good = told["answered"] - told["refused"]
    return Result(started, started + told["seconds"], good, told["refused"], told["lost"], cpu / told["seconds"])


#: Numbers of the warm-up's bodies, and of those that are measured.
WARM_UP, MEASURED = (0, MOST // 2), (MOST // 2, MOST)
