"""Remarks about what is legal but hardly meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.advice import advise
from engine.reload import Loader


@pytest.mark.parametrize(
    ("secrets", "columns"),
    [("[abc, long-enough-secret, abcdefg]", [11, 36]), ("abc", [1]), ("long-enough", []), ("none", [])],
)
def test_a_secret_that_can_be_found_by_trying_is_remarked(tmp_path: Path, secrets: str, columns: list[int]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"secrets: {secrets}\nroutes: {{}}\n")
    remarks = advise(Loader(path, {}).load())
    assert [(remark.line, remark.column) for remark in remarks] == [(1, column) for column in columns]
    assert all("it can be found by trying" in remark.message and "openssl" in remark.hint for remark in remarks)
