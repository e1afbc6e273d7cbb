"""Python as it is set for serving."""

import subprocess
import sys

REPORT = """
import gc
from engine.interpreter import tune_interpreter
tune_interpreter()
print(gc.isenabled(), gc.get_threshold()[0], gc.get_freeze_count() > 1000)
"""


def test_a_server_collects_seldom():
    """In a process of its own: it is the whole process that is set."""
    printed = subprocess.run([sys.executable, "-c", REPORT], capture_output=True, text=True, check=True, timeout=30)
    assert printed.stdout.split() == ["True", "10000", "True"]
