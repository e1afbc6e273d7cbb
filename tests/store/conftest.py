"""Where the stores of tests lie; and assertions in modules that are not tests by name are explained as well."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("contract", "contract_holding", "contract_keeping", "contract_repeating", "store_cases")

_MEMORY = Path("/dev/shm")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory where there is such a thing: what a store does is the same, but its fsyncs cost nothing."""
    with tempfile.TemporaryDirectory(dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None) as name:
        yield Path(name)
