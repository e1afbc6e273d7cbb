"""Webhook bodies as LangSmith's rules send them: each of another time window, with other run ids."""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass
from typing import Any

RULE = "d75d7417-0c57-4655-88fe-1db3cda3a47a"
#: Stands in a template where a body's number goes. As long as the number, so that all bodies have one size.
MARK = b"@@@@@@"
#: So many different bodies exist, numbered from 0.
MOST = 10 ** len(MARK)
#: The window's end up to its microseconds, which are the body's number. Nothing else in a body has this time.
WINDOW = "2024-04-05T01:28:56."
_TEXT = (
    "the order was shipped on Monday and should arrive within three days a refund takes up to ten working days "
    "please check whether your account shows the latest invoice otherwise write to support with the number of the "
    "ticket we could not find any parcel under that name try again later or call us between nine and five"
)
_WORDS = re.findall(r"\w+", _TEXT)


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a body is: in bytes, and how many runs share them."""

    name: str
    size: int
    runs: int


SMALL = Shape("2 KB", 2 * 1024, 1)
MEDIUM = Shape("170 KB", 170 * 1024, 100)
LARGE = Shape("3 MB", 3 * 1024 * 1024, 100)


def body_template(shape: Shape) -> bytes:
    """A body of exactly ``shape.size`` bytes, with MARK in place of its number."""
    empty = len(_dump(_payload([("", "")] * shape.runs)))
    each, rest = divmod(shape.size - empty, shape.runs)
    if each < 0:
        raise ValueError(f"{shape.runs} runs take more than {shape.size} bytes")
    texts = [_texts(place, each + (rest if place == 0 else 0)) for place in range(shape.runs)]
    return _dump(_payload(texts))


def request_template(shape: Shape, path: str) -> bytes:
    """An HTTP/1.1 request with such a body."""
    body = body_template(shape)
    head = f"Host: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def numbered(parts: list[bytes], number: int) -> bytes:
    """What a template becomes for a number, where ``parts`` is the template split at MARK."""
    return (b"%06d" % number).join(parts)


def _dump(payload: dict[str, Any]) -> bytes:
    return json.dumps(payload, separators=(",", ":")).encode()


def _texts(place: int, length: int) -> tuple[str, str]:
    """A question and an answer that have so many characters together, different for each place."""
    rng = random.Random(place)
    text = " ".join(rng.choices(_WORDS, k=length // 2 + 1))[:length]
    return text[: length // 2], text[length // 2 :]


def _payload(texts: list[tuple[str, str]]) -> dict[str, Any]:
    mark = MARK.decode()
    return {
        "rule_id": RULE,
        "start_time": f"2024-04-05T01:27:56.{mark}+00:00",
        "end_time": f"{WINDOW}{mark}+00:00",
        "runs": [_run(place, *text) for place, text in enumerate(texts)],
    }


def _run(place: int, question: str, answer: str) -> dict[str, Any]:
    run_id = f"6ab80f10-d79c-4fa2-b441-{place:06d}{MARK.decode()}"
    return {
        "status": "success",
        "is_root": True,
        "trace_id": run_id,
        "dotted_order": f"20240405T012854085646Z{run_id}",
        "run_type": "chain",
        "modified_at": "2024-04-05T01:28:54.145062",
        "tenant_id": "2ebda79f-2946-4491-a9ad-d642f49e0815",
        "end_time": "2024-04-05T01:28:54.085649",
        "name": "support-bot",
        "start_time": "2024-04-05T01:28:51.085646",
        "id": run_id,
        "session_id": "6a3be6a2-9a8c-4fc8-b4c6-a8983b286cc5",
        "parent_run_ids": [],
        "child_run_ids": None,
        "total_tokens": 1234,
        "completion_tokens": 234,
        "prompt_tokens": 1000,
        "total_cost": "0.0731",
        "first_token_time": None,
        "app_path": f"/o/2ebda79f/projects/p/6a3be6a2/r/{run_id}?trace_id={run_id}",
        "in_dataset": False,
        "inputs": {"messages": [{"role": "user", "content": question}]},
        "inputs_s3_urls": None,
        "outputs": {"answer": answer},
        "outputs_s3_urls": None,
        "error": None,
        "tags": ["production", "customer", "v2"],
        "extra": {"metadata": {"env": "prod", "revision": "abc"}},
        "feedback_stats": None,
    }
