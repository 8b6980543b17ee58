"""Memory that the caller owns, as a source: used where it lies, never copied."""

from __future__ import annotations

from pickle import PickleBuffer

from .._sizes import format_size
from ..errors import UsageError
from .base import PartReader, Reading, Source, Update, check_range


class Buffer(Source):
    """Any C-contiguous buffer as flat bytes: bytes, bytearray, memoryview, mmap, array, ndarray.

    The buffer is exported until `close`: meanwhile a bytearray cannot be resized, nor a mmap closed. Nobody can see
    whether its *contents* are changed meanwhile, so `check` has nothing to say; and a mmap of the caller's is as safe
    to touch as the caller made it.
    """

    def __init__(self, data: object) -> None:
        self._raw, self._export = _flat(data)
        self.size = self._raw.nbytes
        self.name = f"<{format_size(self.size)} buffer>"

    def __repr__(self) -> str:
        return f"<Buffer {self.size} bytes>"

    @property
    def reading(self) -> Reading:
        return "memory"

    def open_part(self, offset: int, length: int) -> BufferPart:
        check_range(offset, length, 0, self.size)
        return BufferPart(self._raw, offset, offset + length)

    def check(self) -> None:
        """Never raises: there is no identity to compare."""

    def close(self) -> None:
        self._raw.release()
        self._export.release()


class BufferPart(PartReader):
    """Slices of the caller's memory."""

    fileno: None = None

    def __init__(self, raw: memoryview, start: int, end: int) -> None:
        self._raw: memoryview | None = raw
        self._start = start
        self._end = end

    def feed(self, offset: int, length: int, update: Update) -> None:
        if length:
            with self.view(offset, length) as view:
                update(view)

    def view(self, offset: int, length: int) -> memoryview:
        if self._raw is None:
            raise ValueError("this part is closed")
        check_range(offset, length, self._start, self._end)
        return self._raw[offset : offset + length]

    def close(self) -> None:
        self._raw = None


def _flat(data: object) -> tuple[memoryview, PickleBuffer]:
    kind = type(data).__name__
    try:
        view = memoryview(data)  # type: ignore[arg-type]  # whether it has a buffer is what is asked here
    except (BufferError, ValueError) as error:
        # numpy has no buffer format for some of its types, as datetime64; a closed mmap has no buffer any more.
        raise UsageError(
            f"{kind} gives no buffer ({error}): pass its bytes, for an array array.view('uint8')"
        ) from error
    with view:
        if "O" in view.format or getattr(getattr(data, "dtype", None), "hasobject", False):
            raise UsageError(f"{kind} holds Python objects: what would be sent are their addresses")
        if not view.c_contiguous:
            raise UsageError(f"{kind} is not C-contiguous: pass np.ascontiguousarray(...) of it, which makes a copy")
        # Not memoryview.cast: it refuses formats that are not Python's own, as those of big-endian and structured
        # arrays.
        export = PickleBuffer(data)  # type: ignore[arg-type]  # it has a buffer, as just seen
        with export.raw() as raw:
            return raw.toreadonly(), export
