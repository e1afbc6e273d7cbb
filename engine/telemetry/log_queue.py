"""A bounded queue of log lines, and a thread that writes them to standard error. Logging never blocks.

The standard library's QueueHandler is not used: it limits no bytes, does not say where lines were dropped, and cannot
report to a sender when its line is written.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import logging
import os
import select
import sys
import threading
import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from queue import Empty, SimpleQueue
from typing import Literal, TextIO

from engine.core.counters import Counts
from engine.core.error_text import error_text
from engine.core.errors import Retry
from engine.core.log_context import Receipt, receipt_of
from engine.telemetry.log import LOGGER_NAME, Line, LineFormatter, Unlocked

#: The maximum number of waiting lines, and of their bytes.
MOST_LINES, MOST_BYTES = 10_000, 16 << 20
#: About how many bytes are written at once.
_BATCH_BYTES = 64 << 10
#: How long the thread collects lines, in seconds: each time it takes the interpreter lock, the event loop waits.
_GATHERING = 0.02
#: How long ``flush`` waits, in seconds: a reader that stopped must not keep the process from ending.
_LONGEST_FLUSH = 2.0
#: Seconds until the next attempt after writing failed.
_AFTER_FAILURE = 1.0


@dataclass(frozen=True, slots=True)
class _Entry:
    """One line. ``written`` is set if its sender waits for it."""

    line: Line
    size: int
    written: concurrent.futures.Future[None] | None


@dataclass(slots=True)
class _Gap:
    """The place where lines were dropped, and how many."""

    count: int = 0


#: What the queue contains besides lines: dropped lines, an event to set when it is reached, the end.
_Mark = _Gap | threading.Event | Literal["end"]


class LogQueue(Unlocked):
    """A handler that queues lines without waiting. A thread writes them, once it is started.

    When the queue is full, lines are dropped and counted until it is half empty. One line in their place says how many.
    ``stream`` is standard error by default.
    """

    def __init__(
        self,
        formatter: LineFormatter,
        *,
        most_lines: int = MOST_LINES,
        most_bytes: int = MOST_BYTES,
        stream: TextIO | None = None,
    ) -> None:
        super().__init__()
        self._format, self._stream = formatter, stream
        self._most_lines, self._most_bytes = most_lines, most_bytes
        #: The number of dropped lines.
        self.dropped = Counts()
        self.dropped.add(amount=0)
        # Reentrant, as SimpleQueue is: the garbage collector may run a finalizer that logs during ``emit``.
        self._state = threading.RLock()
        self._entries: SimpleQueue[_Entry | _Mark] = SimpleQueue()
        self._lines = self._bytes = 0
        self._gap: _Gap | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        # Used by the thread only: dropped lines that are not reported yet; whether the last write ended within a line.
        self._unreported = 0
        self._torn = False

    def start(self) -> None:
        """Start the thread."""
        with self._state:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log", daemon=True)
                self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record's line, or drop it."""
        try:
            line, receipt = self._format.capture(record), receipt_of(record)
            size = line.size
            with self._state:
                if self._is_full(size):
                    self._drop(receipt)
                    return
                if receipt is not None:
                    receipt.written = concurrent.futures.Future()
                self._lines += 1
                self._bytes += size
                self._entries.put(_Entry(line, size, receipt.written if receipt is not None else None))
        except Exception:  # noqa: BLE001 - logging must never raise
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Count the line as dropped. ``logging`` would print it, not masked."""
        del record
        with self._state:
            self._drop()

    def flush(self) -> None:
        """Wait until all queued lines are written, at most 2 seconds."""
        self.drain(_LONGEST_FLUSH)

    def drain(self, seconds: float) -> bool:
        """Wait until all queued lines are written, at most so many seconds. Returns whether they are."""
        if self._closed:
            return not self._lines
        self.start()
        reached = threading.Event()
        self._entries.put(reached)
        return reached.wait(seconds)

    def close(self) -> None:
        """Accept no more lines. The thread ends when the queued lines are written; ``flush`` waits for them."""
        with self._state:
            if not self._closed:
                self._closed = True
                self._entries.put("end")
        super().close()

    def _is_full(self, size: int) -> bool:
        """Whether a line must be dropped. A line larger than the limit is accepted if no other waits."""
        if self._closed:
            return True
        if self._gap is not None:
            if self._lines > self._most_lines // 2 or self._bytes > self._most_bytes // 2:
                return True
            self._gap = None
        return self._lines >= self._most_lines or (self._lines > 0 and self._bytes + size > self._most_bytes)

    def _drop(self, receipt: Receipt | None = None) -> None:
        """Drop a line, and further ones until the queue is half empty. A sender with a receipt retries: no loss."""
        if self._gap is None:
            self._gap = _Gap()
            self._entries.put(self._gap)
        if receipt is not None:
            receipt.refused = True
        else:
            self._gap.count += 1
            self.dropped.add()

    # --- in the thread

    def _run(self) -> None:
        while True:
            batch, mark = self._next()
            self._write(batch)
            match mark:
                case _Gap():
                    with self._state:
                        if self._gap is mark:
                            self._gap = None  # so that its count is final
                        self._unreported += mark.count
                    self._write([])
                case threading.Event():
                    mark.set()
                case "end":
                    return

    def _next(self) -> tuple[list[_Entry], _Mark | None]:
        """The next lines to write, waiting for the first one; and what follows them in the queue, if not a line."""
        batch: list[_Entry] = []
        remaining = _BATCH_BYTES
        with contextlib.suppress(Empty):
            while remaining > 0:
                patience = _AFTER_FAILURE if self._unreported else None
                entry = self._entries.get(block=not batch, timeout=patience)
                if not isinstance(entry, _Entry):
                    return batch, entry
                if not batch and entry.written is None:
                    time.sleep(_GATHERING)
                batch.append(entry)
                remaining -= entry.size
        return batch, None

    def _write(self, batch: Sequence[_Entry]) -> None:
        """Write lines, and inform their waiting senders. Lines that were withdrawn are left out."""
        reported = self._unreported
        kept = [entry for entry in batch if entry.written is None or entry.written.set_running_or_notify_cancel()]
        texts = [self._notice(reported)] if reported else []
        count, error = self._send([*texts, *(self._rendered(entry.line) for entry in kept)])
        if reported and count:
            self._unreported, count = 0, count - 1
        for entry in kept[:count]:
            if entry.written is not None:
                entry.written.set_result(None)
        for entry in kept[count:]:
            self._fail(entry, error)
        with self._state:
            self._lines -= len(batch)
            self._bytes -= sum(entry.size for entry in batch)

    def _fail(self, entry: _Entry, error: Exception | None) -> None:
        if entry.written is not None:
            entry.written.set_exception(Retry(f"the log could not be written: {error and error_text(error)}"))
            return
        self._unreported += 1
        with self._state:
            self.dropped.add()

    def _rendered(self, line: Line) -> str:
        try:
            return self._format.render(line) + "\n"
        except Exception as error:  # noqa: BLE001 - one line must not end the thread
            return self._own(f"a log line of {line.logger} could not be written: {type(error).__name__}")

    def _notice(self, count: int) -> str:
        what = "1 log line was" if count == 1 else f"{count} log lines were"
        return self._own(f"{what} dropped because standard error could not be written")

    def _own(self, message: str) -> str:
        """A line of the queue itself, which contains nothing to mask."""
        record = logging.LogRecord(LOGGER_NAME, logging.WARNING, "", 0, message, None, None)
        try:
            return self._format.format(record) + "\n"
        except Exception:  # noqa: BLE001 - the thread must continue
            return f"{message}\n"

    def _send(self, texts: Sequence[str]) -> tuple[int, Exception | None]:
        """Write to the current standard error. Returns how many texts were written completely, and the error if any."""
        stream = self._stream or sys.stderr
        try:
            descriptor = _descriptor(stream)
            if descriptor is not None:
                return self._send_to(descriptor, [text.encode(stream.encoding, "backslashreplace") for text in texts])
            stream.write("".join(texts))
            stream.flush()
        except Exception as error:  # noqa: BLE001 - a stream may be any object, and no error may end the thread
            return 0, error
        return len(texts), None

    def _send_to(self, descriptor: int, texts: Sequence[bytes]) -> tuple[int, Exception | None]:
        """Write without Python's buffers: the interpreter could not exit while a blocked thread holds their lock."""
        head = b"\n" if self._torn and texts else b""
        sent, error = _write_all(descriptor, memoryview(head + b"".join(texts)))
        ends = list(accumulate(map(len, texts), initial=len(head)))
        count = bisect_right(ends, sent, lo=1) - 1
        if sent:
            self._torn = sent != ends[count]
        return count, error


def _write_all(descriptor: int, data: memoryview) -> tuple[int, OSError | None]:
    """Returns how many bytes were written, and the error if any. Waits for a non-blocking descriptor."""
    sent = 0
    while sent < len(data):
        try:
            sent += os.write(descriptor, data[sent:])
        except BlockingIOError:
            select.select([], [descriptor], [], 1.0)
        except OSError as error:
            return sent, error
    return sent, None


def _descriptor(stream: TextIO) -> int | None:
    """The stream's file descriptor; None if it has none, or if line ends are translated (Windows)."""
    if os.name != "posix":
        return None
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):  # such as a StringIO
        return None
