"""The run that the actions' tests are about."""

from __future__ import annotations

from typing import Any

RUN_ID = "6ab80f10-d79c-4fa2-b441-922ed6feb630"
PROJECT_ID = "6a3be6a2-9a8c-4fc8-b4c6-a8983b286cc5"
RUN: dict[str, Any] = {
    "id": RUN_ID,
    "trace_id": RUN_ID,
    "session_id": PROJECT_ID,
    "name": "classify",
    "start_time": "2023-05-05T05:13:24.571809",
    "inputs": {"question": "why?"},
    "outputs": {"answer": "because"},
    "url": "https://smith.langchain.com/o/1/projects/p/2/r/3?trace_id=4&start_time=5",
}
