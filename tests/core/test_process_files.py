"""The limit of open files: raised in a process of its own, for it is the whole process that is set."""

import subprocess
import sys

import pytest

resource = pytest.importorskip("resource")

REPORT = """
import resource, sys
hard = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
from engine.core.process import raise_descriptor_limit
print(raise_descriptor_limit(), raise_descriptor_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize("hard", [64, 100, 1000])
def test_a_low_limit_is_raised_as_far_as_it_may_be_and_stays_there(hard):
    given = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if given not in (-1, resource.RLIM_INFINITY) and given < hard:
        pytest.skip("this machine allows fewer")
    command = [sys.executable, "-c", REPORT, str(hard)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert printed.stdout.split() == [str(hard)] * 4
