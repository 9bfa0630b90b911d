"""Where in a TOML text each key and each value stands, because the standard parser keeps no positions.

The text must already have been parsed by `tomllib`: the scanner below trusts that it is valid TOML and only walks it.
"""

from __future__ import annotations

from dataclasses import dataclass

KeyPath = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Line and column, from 1, of a key and of its value. For a table both are its header."""

    key_line: int
    key_column: int
    value_line: int
    value_column: int


def locate(text: str) -> dict[KeyPath, Place]:
    """Place of every key of a valid TOML text, by its path, e.g. ``("detection", "min_samples")``.

    An element of an array of tables has its index in the path: ``("rules", "0", "name")``.
    """
    scanner = _Scanner(text)
    scanner.scan()
    return scanner.places


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.places: dict[KeyPath, Place] = {}
        self._line_starts = [0] + [i + 1 for i, char in enumerate(text) if char == "\n"]
        self._counts: dict[KeyPath, int] = {}

    def scan(self) -> None:
        prefix: KeyPath = ()
        while True:
            self._skip_blank()
            if self.at >= len(self.text):
                return
            if self.text[self.at] == "[":
                prefix = self._header()
            else:
                self._pair(prefix)

    def _header(self) -> KeyPath:
        start = self.at
        is_array = self.text.startswith("[[", self.at)
        self.at += 2 if is_array else 1
        path = self._indexed(self._key())
        self.at = self._line_end()
        if is_array:
            count = self._counts.get(path, -1) + 1
            self._counts[path] = count
            self._record(path, start, start)
            path = (*path, str(count))
        for depth in range(1, len(path) + 1):
            self._record(path[:depth], start, start)
        return path

    def _indexed(self, parts: KeyPath) -> KeyPath:
        """A header below an array of tables means its newest element."""
        path: KeyPath = ()
        for part in parts[:-1]:
            path = (*path, part)
            if path in self._counts:
                path = (*path, str(self._counts[path]))
        return (*path, parts[-1])

    def _pair(self, prefix: KeyPath) -> None:
        key_at = self.at
        path = (*prefix, *self._key())
        self.at = self.text.index("=", self.at) + 1
        self._skip_space()
        for depth in range(len(prefix) + 1, len(path)):
            self._record(path[:depth], key_at, key_at)
        self._record(path, key_at, self.at)
        self._value(path)

    def _record(self, path: KeyPath, key_at: int, value_at: int) -> None:
        key, value = self._position(key_at), self._position(value_at)
        self.places.setdefault(path, Place(key_line=key[0], key_column=key[1], value_line=value[0], value_column=value[1]))

    def _position(self, at: int) -> tuple[int, int]:
        low, high = 0, len(self._line_starts)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._line_starts[middle] <= at else (low, middle)
        return low + 1, at - self._line_starts[low] + 1

    def _key(self) -> KeyPath:
        parts = []
        while True:
            self._skip_space()
            parts.append(self._string() if self.text[self.at] in "\"'" else self._bare_key())
            self._skip_space()
            if not self.text.startswith(".", self.at):
                return tuple(parts)
            self.at += 1

    def _bare_key(self) -> str:
        start = self.at
        while self.at < len(self.text) and self.text[self.at] not in " \t.=]":
            self.at += 1
        return self.text[start : self.at]

    def _value(self, path: KeyPath) -> None:
        opening = self.text[self.at]
        if opening in "\"'":
            self._string()
        elif opening == "[":
            self._array(path)
        elif opening == "{":
            self._inline_table(path)
        else:
            while self.at < len(self.text) and self.text[self.at] not in ",]}#\n":
                self.at += 1

    def _array(self, path: KeyPath) -> None:
        self.at += 1
        index = 0
        while True:
            self._skip_blank(also=",")
            if self.text[self.at] == "]":
                self.at += 1
                return
            self._record((*path, str(index)), self.at, self.at)
            self._value((*path, str(index)))
            index += 1

    def _inline_table(self, path: KeyPath) -> None:
        self.at += 1
        while True:
            self._skip_blank(also=",")
            if self.text[self.at] == "}":
                self.at += 1
                return
            self._pair(path)

    def _string(self) -> str:
        """The content of the string here, escapes undone as far as keys need it; moves behind it."""
        quote = self.text[self.at]
        fence = quote * 3 if self.text.startswith(quote * 3, self.at) else quote
        start = self.at = self.at + len(fence)
        while not self.text.startswith(fence, self.at):
            self.at += 2 if quote == '"' and self.text[self.at] == "\\" else 1
        while len(fence) == 3 and self.text.startswith(quote, self.at + 3):
            self.at += 1
        content = self.text[start : self.at]
        self.at += len(fence)
        return _unescape(content) if quote == '"' else content

    def _skip_space(self) -> None:
        while self.at < len(self.text) and self.text[self.at] in " \t":
            self.at += 1

    def _skip_blank(self, also: str = "") -> None:
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == "#":
                self.at = self._line_end()
            elif char in " \t\r\n" or (also and char in also):
                self.at += 1
            else:
                return

    def _line_end(self) -> int:
        end = self.text.find("\n", self.at)
        return len(self.text) if end < 0 else end


_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\"}


def _unescape(content: str) -> str:
    parts = []
    at = 0
    while at < len(content):
        if content[at] != "\\":
            parts.append(content[at])
            at += 1
        elif content[at + 1] in "uU":
            width = 4 if content[at + 1] == "u" else 8
            parts.append(chr(int(content[at + 2 : at + 2 + width], 16)))
            at += 2 + width
        else:
            parts.append(_ESCAPES.get(content[at + 1], ""))
            at += 2
    return "".join(parts)
