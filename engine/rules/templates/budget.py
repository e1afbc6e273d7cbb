"""Limits for one rendering, against mistakes such as a loop over the wrong thing or ``'x' * 10**9``."""

from __future__ import annotations

from engine.core.errors import TemplateError
from engine.core.offload import current

#: Units of work one rendering may spend; about a second of the slowest kind.
MAX_WORK = 1_000_000
#: Cost of a loop step or a function call. A rendering may have 100,000 of them.
STEP = 10
#: Characters of new text per unit. A rendering may make 32 MiB of text in total.
CHARS_PER_UNIT = 32
#: Characters per unit where a text is searched, written as JSON or copied without growing. Event data has no cap.
COPIED_PER_UNIT = 128
#: The longest text that a template may make, in characters. It applies to the result too.
MAX_TEXT = 32 * 1024 * 1024
#: The longest list or range that an operator or function may make.
MAX_ITEMS = 100_000
#: Columns a text can be padded, centred or indented to.
MAX_WIDTH = 10_000
#: Bits of any whole number an operator makes; about 1,200 digits.
MAX_BITS = 4096

#: Work between two checks of the deadline; at most about 20 ms.
_STRIDE = 20_000


class Budget:
    """The remaining work of one rendering. Each rendering has its own.

    The deadline of the computation is checked whenever ``left`` falls below ``_check_at``.
    """

    __slots__ = ("_check_at", "_deadline", "left")

    def __init__(self) -> None:
        self.left = MAX_WORK
        self._deadline = current()
        self._check_at = MAX_WORK - _STRIDE if self._deadline else 0

    def spend(self, units: int) -> None:
        """Spend some work.

        Raises:
            TemplateError: nothing is left.
            OutOfTime: the deadline passed.
        """
        self.left -= units
        if self.left < self._check_at:
            self._check()

    def _check(self) -> None:
        if self.left < 0:
            raise TemplateError(
                "does more work than one rendering may: it was stopped after about "
                f"{MAX_WORK // STEP:,} loop steps or {MAX_WORK * CHARS_PER_UNIT // 2**20} MiB of text",
                hint="look for a loop or a macro that never ends, or for a loop over more than it needs; "
                "cut a long text first: `| truncate(3000)`",
            )
        if self._deadline is not None:
            self._deadline.check(MAX_WORK - self.left)
        self._check_at = max(self.left - _STRIDE, 0)

    def made(self, length: int, given: int = 0) -> None:
        """Charge for a text of ``length`` characters, before or after it is made.

        A text that is not longer than the ``given`` one, from which it is made, has no cap.

        Raises:
            TemplateError: it is longer than any text may be, or nothing is left.
        """
        if length > given:
            self.fits(length)
        self.spend(length // (CHARS_PER_UNIT if length > given else COPIED_PER_UNIT))

    @staticmethod
    def fits(length: int) -> None:
        """Check the length of a text before it is made.

        Raises:
            TemplateError: it is longer than any text may be.
        """
        if length > MAX_TEXT:
            raise TemplateError(
                f"makes a text of {length:,} characters; {MAX_TEXT:,} is the most",
                hint="cut what is long: `| truncate(3000)`",
            )

    def items(self, count: int) -> None:
        """Charge for a list of ``count`` items, before or after it is made.

        Raises:
            TemplateError: it is longer than any list may be, or nothing is left.
        """
        if count > MAX_ITEMS:
            raise TemplateError(f"makes a list of {count:,} items; {MAX_ITEMS:,} is the most")
        self.spend(count)


def columns(width: object) -> int:
    """Check a width to pad to, and return it.

    Raises:
        TemplateError: it is no whole number, or too wide.
    """
    if not isinstance(width, int) or isinstance(width, bool):
        raise TemplateError(f"a width must be a whole number, not {width!r}")
    if abs(width) > MAX_WIDTH:
        raise TemplateError(f"a width of {width:,} is too much; {MAX_WIDTH:,} is the most")
    return width
