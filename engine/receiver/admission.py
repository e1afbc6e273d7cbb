"""What came in and is not durable yet: how much of it is held, and whether there is room for more."""

from __future__ import annotations

from engine.core.errors import EngineError

#: Appends under way at once, before another request is refused. Thousands wait for one commit when the disk is slow.
UNDER_WAY_LIMIT = 8192
#: Appends whose requests were refused because they took too long: with so many the store is stuck, and it is enough.
LATE_LIMIT = 256
#: How much of the room bodies may take whose signature is not checked yet: whoever sends them may be anybody. The rest
#: stays free for those who showed a secret first.
UNAUTHENTICATED_PART = 4


_TOO_MANY = "too many large bodies are in hand at once"
_TOO_MANY_UNAUTHENTICATED = (
    "too many large bodies without a secret are in hand at once, their signatures not checked yet"
)


class NoCapacity(EngineError):  # noqa: N818 - reads as the answer it causes
    """There is no room for another body, or for more of one."""


class Admission:
    """What one process holds between a request's first byte and its event's commit.

    ``held`` is in bytes of bodies, and ``parsed`` about how many bytes they parsed to; each has the
    same limit. ``unauthenticated`` are bodies whose sender is not known yet. ``under_way`` and ``late`` count appends.
    All of it is given back when nothing is left in memory, not when the request is answered: a stuck
    store goes on holding what it was given.
    """

    __slots__ = (
        "held",
        "held_limit",
        "late",
        "late_limit",
        "parsed",
        "unauthenticated",
        "unauthenticated_limit",
        "under_way",
        "under_way_limit",
    )

    def __init__(
        self, held_limit: int, *, under_way_limit: int = UNDER_WAY_LIMIT, late_limit: int = LATE_LIMIT
    ) -> None:
        self.held_limit = held_limit
        self.under_way_limit = under_way_limit
        self.late_limit = late_limit
        self.unauthenticated_limit = held_limit // UNAUTHENTICATED_PART
        self.held = self.parsed = self.unauthenticated = self.under_way = self.late = 0

    def in_memory(self) -> int:
        """About how many bytes of memory are held."""
        return self.held + self.parsed

    def obstacle(self, size: int = 0, *, authenticated: bool = True) -> str:
        """Empty when there is room for another body of ``size`` bytes, else why there is none."""
        if self.late >= self.late_limit:
            return f"the store is stuck: it has {self.late} events that were refused because it did not answer"
        if self.under_way >= self.under_way_limit:
            return f"{self.under_way} events wait for the store already"
        if self.parsed >= self.held_limit or self.held >= self.held_limit or self.held + size > self.held_limit:
            return _TOO_MANY
        if not authenticated and (
            self.unauthenticated >= self.unauthenticated_limit
            or self.unauthenticated + size > self.unauthenticated_limit
        ):
            return _TOO_MANY_UNAUTHENTICATED
        return ""


class Reservation:
    """What one request holds of an admission's room. ``parsed`` says whether its body is parsed."""

    __slots__ = ("_admission", "_authenticated", "_kept", "_late", "_parsed", "parsed", "size")

    def __init__(self, admission: Admission, *, authenticated: bool = True) -> None:
        self._admission = admission
        self._authenticated = authenticated
        self._kept = self._late = self.parsed = False
        self.size = self._parsed = 0

    def grow(self, size: int) -> None:
        """Hold so many more bytes, or fewer where ``size`` is negative.

        Raises:
            NoCapacity: that would be more than there may be. Nothing more is held then.
        """
        admission = self._admission
        if size > 0 and admission.held + size > admission.held_limit:
            raise NoCapacity(_TOO_MANY)
        if not self._authenticated:
            if admission.unauthenticated + size > admission.unauthenticated_limit:
                raise NoCapacity(_TOO_MANY_UNAUTHENTICATED)
            admission.unauthenticated += size
        self.size += size
        admission.held += size

    def expand(self, size: int) -> None:
        """Hold so many bytes for what the body parsed to. Any size fits while the others have half of the room at most.

        Raises:
            NoCapacity: it does not fit. Nothing more is held then.
        """
        admission = self._admission
        if admission.parsed + size > admission.held_limit and admission.parsed > admission.held_limit // 2:
            raise NoCapacity(_TOO_MANY)
        self._parsed += size
        self.parsed = True
        admission.parsed += size

    def authenticate(self) -> None:
        """The sender is known now."""
        if not self._authenticated:
            self._authenticated = True
            self._admission.unauthenticated -= self.size

    def keep(self) -> None:
        """From now on an append has it, which gives it back when it is done."""
        self._kept = True
        self._admission.under_way += 1

    @property
    def kept(self) -> bool:
        """Whether an append has it."""
        return self._kept

    def late(self) -> None:
        """The append goes on, though its request was refused."""
        self._late = True
        self._admission.late += 1

    def release(self) -> None:
        """Nothing of it is left in memory. Call it once."""
        self.authenticate()
        admission = self._admission
        admission.held -= self.size
        admission.parsed -= self._parsed
        admission.under_way -= self._kept
        admission.late -= self._late
