"""Python as it is set for serving."""

import gc
import subprocess
import sys

import pytest

from engine.core.process import no_full_collections

REPORT = """
import gc
from engine.core.process import tune_interpreter
tune_interpreter()
print(gc.isenabled(), gc.get_threshold()[0], gc.get_freeze_count() > 1000)
"""


def test_a_server_collects_seldom():
    """In a process of its own: it is the whole process that is set."""
    printed = subprocess.run([sys.executable, "-c", REPORT], capture_output=True, text=True, check=True, timeout=30)
    assert printed.stdout.split() == ["True", "10000", "True"]


def test_full_collections_are_put_off_for_a_while():
    before = gc.get_threshold()
    with no_full_collections():
        assert gc.get_threshold() == (before[0], 1, 1_000_000)
    assert gc.get_threshold() == before
    with pytest.raises(ZeroDivisionError), no_full_collections():
        raise ZeroDivisionError
    assert gc.get_threshold() == before
