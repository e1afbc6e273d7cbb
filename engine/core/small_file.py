"""Reading small text files: secrets, and files of variables."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Final

#: A secret in a file is short; ``/dev/zero`` is not.
MAX_FILE_BYTES: Final = 64 << 10


def read_small(path: Path) -> str:
    """The text of a regular file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not a regular, small file of UTF-8 text.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is not a file")
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"it is larger than {MAX_FILE_BYTES >> 10} KiB")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
