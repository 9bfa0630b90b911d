"""Text files as blocks of numbered lines, whatever bytes they hold; plain or gzip."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from immune.errors import InputError

BLOCK_BYTES = 1 << 18
MAX_LINE_BYTES = 1 << 20


class Lines:
    """Some lines of a text file, without their ends; `first` is the number of the first one."""

    __slots__ = ("first", "overlong", "text", "texts")

    def __init__(self, first: int, content: bytes, *, overlong: bool = False) -> None:
        self.first = first
        self.overlong = overlong
        self.text = content.decode("utf-8", "surrogateescape")
        if "\r" in self.text:
            self.text = self.text.replace("\r\n", "\n").removesuffix("\r")
        self.texts = self.text.split("\n")


class TextFile:
    """A text file, plain or gzip, in blocks of lines.

    Bytes that are not UTF-8 become surrogates. A line beyond the limit comes alone, cut and marked, so that a file without
    line ends cannot fill the memory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cut_off = False
        self._size = max(1, path.stat().st_size)
        self._read = 0

    def fraction(self) -> float:
        """How much has been read, 0 to 1."""
        return min(1.0, self._read / self._size)

    def blocks(self) -> Iterator[Lines]:
        """The whole file from its start, some thousand lines at a time. Raises InputError if the system stops reading it."""
        self._read, self.cut_off = 0, False
        try:
            with self.path.open("rb") as raw:
                packed = raw.read(2) == b"\x1f\x8b"
                raw.seek(0)
                yield from _split(self._inflated(raw) if packed else self._plain(raw))
        except OSError as error:
            raise unreadable(self.path, error) from None

    def _plain(self, raw: IO[bytes]) -> Iterator[bytes]:
        while block := raw.read(BLOCK_BYTES):
            self._read += len(block)
            yield block

    def _inflated(self, raw: IO[bytes]) -> Iterator[bytes]:
        stream = zlib.decompressobj(wbits=31)
        for packed in self._plain(raw):
            rest = packed
            while rest:
                if stream.eof:
                    stream = zlib.decompressobj(wbits=31)
                try:
                    # In bounded pieces: a small file may unpack to any size.
                    yield stream.decompress(rest, BLOCK_BYTES)
                except zlib.error:
                    self.cut_off = True
                    return
                rest = stream.unused_data if stream.eof else stream.unconsumed_tail
        self.cut_off = not stream.eof
        yield stream.flush()


def _split(content: Iterator[bytes]) -> Iterator[Lines]:
    line, rest = 1, next(content, b"").removeprefix(b"\xef\xbb\xbf")
    while True:
        end = rest.rfind(b"\n")
        if end >= 0:
            lines = Lines(line, rest[:end])
            rest = rest[end + 1 :]
        elif len(rest) > MAX_LINE_BYTES:
            lines = Lines(line, rest[:200], overlong=True)
            rest = _after_newline(content)
        else:
            lines = None
        if lines is not None:
            line += len(lines.texts)
            yield lines
        block = next(content, None)
        if block is None:
            break
        rest += block
    if rest:
        yield Lines(line, rest.removesuffix(b"\n"))


def _after_newline(content: Iterator[bytes]) -> bytes:
    for block in content:
        _, newline, rest = block.partition(b"\n")
        if newline:
            return rest
    return b""


def has_surrogate(text: str) -> bool:
    """Whether some of the bytes that the text was read from were not UTF-8."""
    if text.isascii():
        return False
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def unreadable(path: Path, error: OSError) -> InputError:
    """What to tell a person whose file the system will not read."""
    return InputError(error.strerror or "cannot be read", field="file", value=str(path), way_out="give a readable file")
