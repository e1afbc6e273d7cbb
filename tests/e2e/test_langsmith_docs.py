"""The example of LangSmith's documentation, read out of our page about it, end to end."""

from __future__ import annotations

import re
from pathlib import Path

from harness import SECRET

from engine.testing import payloads

PAGE = Path(__file__).parents[2] / "docs" / "from-the-langsmith-docs.md"


def configuration() -> str:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return block


async def test_each_corrected_run_becomes_an_example_and_no_other(engine, langsmith, slack, sink) -> None:
    langsmith.add_dataset("classifier-github-issues")
    runs = [payloads.run(number) for number in range(3)]
    for run in runs:
        langsmith.add_run(run)
    # Two rows for the third, none for the first: what breaks a pairing by position.
    langsmith.add_feedback(runs[2]["id"], key="user_score", score=0)
    langsmith.add_feedback(runs[2]["id"], key="correctness", correction="question")
    langsmith.add_feedback(runs[1]["id"], key="user_score", score=1)
    engine.config.write_text(configuration())
    engine.environ["LS_WEBHOOK"] = SECRET
    await engine.start()
    await engine.post(payloads.rule(runs))
    await engine.quiet()
    (example,) = langsmith.examples.values()
    assert example["inputs"] == runs[2]["inputs"]
    assert example["outputs"] == {"output": "question"}
    assert example["source_run_id"] == runs[2]["id"]
    lists = [one for one in langsmith.requests if one.method == "GET" and one.route == "/feedback"]
    assert len(lists) == 1, "one batched call for all runs"


async def test_a_wrong_secret_is_refused(engine, langsmith) -> None:
    engine.config.write_text(configuration())
    engine.environ["LS_WEBHOOK"] = "another secret"
    await engine.start()
    await engine.post(payloads.rule(), status=401)
    assert langsmith.requests == []
