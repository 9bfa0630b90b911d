"""Files as blocks of columns. Readers know the file's form (CSV, JSONL, Parquet), not what its columns mean.

Whatever bytes a file holds, a reader either raises InputError before the first row or hands over blocks: the columns that
were asked for, the line of each row, and the rows whose form is broken.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from immune.errors import InputError
from immune.sources.lines import Lines, TextFile, has_surrogate, unreadable
from immune.sources.parse import show

Column = Sequence[object] | NDArray[Any]
"""Values of one column as they came: text, JSON scalars, or a numpy array without missing values."""

MAX_QUOTED_LINES = 500
"""A quote that is still open after so many lines was never meant to open."""
PARQUET_ROWS = 32_768


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A row that could not be taken, and why; `line` counts from 1 (in Parquet: rows)."""

    line: int
    field: str
    value: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """n rows by column: `line` (n,) int64; each column has n values. `broken` rows are not among them."""

    line: NDArray[np.int64]
    columns: dict[str, Column]
    broken: list[Broken] = field(default_factory=list)


class Reader(Protocol):
    """One file."""

    path: Path
    header: tuple[str, ...]

    def blocks(self, wanted: Sequence[str]) -> Iterator[Block]:
        """All rows from the first one on, in file order, with these columns. May be called again."""
        ...

    def fraction(self) -> float:
        """How much of the file the running `blocks` has read, 0 to 1."""
        ...


def open_reader(path: Path) -> Reader:
    """The reader of a file, by suffix or else by its first bytes. Raises InputError if it cannot be read or has no header."""
    try:
        with path.open("rb") as file:
            start = file.read(64)
        if not path.is_file():
            raise InputError("not a file", field="file", value=str(path), way_out="save it to a file first: it is read more than once")
    except OSError as error:
        raise unreadable(path, error) from None
    except ValueError:
        raise InputError("not a path", field="file", value=show(str(path)), way_out="give a readable file") from None
    if not start:
        raise InputError("the file is empty", field="file", value=str(path), way_out="give a CSV with a header, JSONL or Parquet")
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError("the file is UTF-16", field="file", value=str(path), way_out="iconv -f UTF-16 -t UTF-8 turns it into UTF-8")
    if start.startswith(b"PAR1"):
        return ParquetReader(path)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in {".parquet", ".pq"}:
        raise InputError("not a Parquet file", field="file", value=str(path), way_out="the name says Parquet, the content does not")
    if any(suffix in {".jsonl", ".ndjson", ".json"} for suffix in suffixes) or start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return JsonLinesReader(path)
    return CsvReader(path)


class CsvReader:
    """CSV with a header; comma, semicolon or tab, whichever the header has most of.

    A quoted value may hold line ends. A quote that never closes costs its own line and no other.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = TextFile(path)
        first = next((pair for pair in self._numbered() if pair[1].strip()), None)
        if first is None:
            raise InputError("no header", field="file", value=str(path), way_out="the first line names the columns")
        self._header_line, text = first
        self._delimiter = max(",;\t", key=text.count)
        cells = _cells(text, self._delimiter)
        if cells is None or has_surrogate(text):
            raise InputError("the header cannot be read", field="file", value=str(path), way_out="give UTF-8 text with one line of column names")
        self.header: tuple[str, ...] = tuple(cell.strip() for cell in cells)

    def fraction(self) -> float:
        """How much has been read, 0 to 1."""
        return self._file.fraction()

    def blocks(self, wanted: Sequence[str]) -> Iterator[Block]:
        """All rows, some thousand at a time."""
        places = {name: self.header.index(name) for name in wanted}
        source = self._file.blocks()
        last = 0
        for lines in source:
            last = lines.first + len(lines.texts) - 1
            yield self._block(lines, source, places)
        if self._file.cut_off:
            yield _only_broken([Broken(line=last + 1, field="file", value="", reason="cut_off")])

    def _numbered(self) -> Iterator[tuple[int, str]]:
        for lines in self._file.blocks():
            if not lines.overlong:
                yield from enumerate(lines.texts, lines.first)

    def _block(self, lines: Lines, source: Iterator[Lines], places: dict[str, int]) -> Block:
        if lines.overlong:
            return _only_broken([Broken(line=lines.first, field="line", value=show(lines.text), reason="line_too_long")])
        skip = max(0, self._header_line + 1 - lines.first)
        first, texts = lines.first + skip, lines.texts[skip:]
        if not has_surrogate(lines.text):
            split = _quoted_columns if '"' in lines.text else _even_columns
            columns = split(texts, self._delimiter, len(self.header))
            if columns is not None:
                wanted: dict[str, Column] = {name: columns[place] for name, place in places.items()}
                return Block(line=np.arange(first, first + len(texts)), columns=wanted)
        return self._careful_block(first, texts, source, places)

    def _careful_block(self, first: int, texts: list[str], source: Iterator[Lines], places: dict[str, int]) -> Block:
        line, rows, broken = [], [], []
        at = 0
        while at < len(texts):
            row, used = self._record(texts, at, source)
            if isinstance(row, str):
                broken.append(Broken(line=first + at, field="line", value=show(texts[at]), reason=row))
            elif row:
                line.append(first + at)
                rows.append(row)
            at += used
        return _block_of(np.array(line, dtype=np.int64), rows, places, broken)

    def _record(self, texts: list[str], at: int, source: Iterator[Lines]) -> tuple[list[str] | str, int]:
        """The row that starts at this line, or why it is broken, or nothing for a blank line; and the lines it took."""
        text, used = texts[at], 1
        if not text.strip(" \t\r"):
            return [], 1
        if '"' in text:
            row, used = self._quoted(texts, at, source)
            if row is None:
                return "unclosed_quote", 1
        else:
            row = text.split(self._delimiter)
        if any(map(has_surrogate, texts[at : at + used])):
            return "encoding", used
        if len(row) != len(self.header):
            return "too_few_fields" if len(row) < len(self.header) else "too_many_fields", used
        return row, used

    def _quoted(self, texts: list[str], at: int, source: Iterator[Lines]) -> tuple[list[str] | None, int]:
        alone = _cells(texts[at], self._delimiter)
        if alone is not None:
            return alone, 1
        while len(texts) < at + MAX_QUOTED_LINES:
            more = next(source, None)
            if more is None:
                break
            texts.extend(more.texts)
        reader = csv.reader((text + "\n" for text in texts[at : at + MAX_QUOTED_LINES]), delimiter=self._delimiter, strict=True)
        try:
            row = next(reader)
        except (csv.Error, StopIteration):
            return None, 1
        return (row, reader.line_num) if len(row) == len(self.header) else (None, 1)


class JsonLinesReader:
    """One JSON object a line. The header is every key of the first quarter of a megabyte."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = TextFile(path)
        lines = next(self._file.blocks(), None)
        objects = _objects(lines, [])[1] if lines is not None and not lines.overlong else []
        self.header: tuple[str, ...] = tuple(dict.fromkeys(chain.from_iterable(objects)))
        if not objects:
            way_out = "one object a line; jq -c '.[]' turns an array into lines"
            raise InputError("no JSON object in the first lines", field="file", value=str(path), way_out=way_out)

    def fraction(self) -> float:
        """How much has been read, 0 to 1."""
        return self._file.fraction()

    def blocks(self, wanted: Sequence[str]) -> Iterator[Block]:
        """All rows, some thousand at a time; a key that a row does not have is None."""
        last = 0
        for lines in self._file.blocks():
            last = lines.first + len(lines.texts) - 1
            if lines.overlong:
                yield _only_broken([Broken(line=lines.first, field="line", value=show(lines.text), reason="line_too_long")])
                continue
            broken: list[Broken] = []
            line, objects = _objects(lines, broken)
            columns: dict[str, Column] = {name: [one.get(name) for one in objects] for name in wanted}
            yield Block(line=np.array(line, dtype=np.int64), columns=columns, broken=broken)
        if self._file.cut_off:
            yield _only_broken([Broken(line=last + 1, field="file", value="", reason="cut_off")])


class ParquetReader:
    """Parquet, through pyarrow (an extra). `line` is the number of the row, from 1."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._parquet: Any = import_module("pyarrow.parquet")
            self._arrow: Any = import_module("pyarrow")
        except ImportError:
            raise InputError("reading Parquet needs pyarrow", field="file", value=str(path), way_out="pip install 'immune[parquet]'") from None
        with self._open() as file:
            self.header: tuple[str, ...] = tuple(file.schema_arrow.names)
            self._rows = max(1, int(file.metadata.num_rows))
        self._read = 0

    def fraction(self) -> float:
        """How much has been read, 0 to 1."""
        return min(1.0, self._read / self._rows)

    def blocks(self, wanted: Sequence[str]) -> Iterator[Block]:
        """All rows, some ten thousand at a time."""
        self._read = 0
        with self._open() as file:
            batches = file.iter_batches(batch_size=PARQUET_ROWS, columns=list(wanted))
            while True:
                try:
                    batch = next(batches, None)
                except (self._arrow.ArrowException, OSError):
                    yield _only_broken([Broken(line=self._read + 1, field="file", value="", reason="cut_off")])
                    return
                if batch is None:
                    return
                line = np.arange(self._read + 1, self._read + 1 + batch.num_rows)
                self._read += batch.num_rows
                yield Block(line=line, columns={name: self._column(batch.column(name)) for name in wanted})

    def _open(self) -> Any:
        try:
            return self._parquet.ParquetFile(self.path)
        except (self._arrow.ArrowException, OSError):
            raise InputError("not a whole Parquet file", field="file", value=str(self.path), way_out="write it again") from None

    def _column(self, column: Any) -> Column:
        types = self._arrow.types
        if types.is_timestamp(column.type):
            column = column.cast(self._arrow.timestamp("us", tz=column.type.tz), safe=False)
        numeric = types.is_floating(column.type) or types.is_integer(column.type) or types.is_timestamp(column.type)
        if numeric and column.null_count == 0:
            array: NDArray[Any] = column.to_numpy(zero_copy_only=False)
            return array
        values: list[object] = column.to_pylist()
        return values


def _even_columns(texts: list[str], delimiter: str, width: int) -> list[list[str]] | None:
    """The columns of lines without quotes that all have `width` cells, else None.

    One split over all lines, with a mark between them that has to turn up after every `width` cells: a list per row would
    cost more than everything else together.
    """
    if width < 2 or not texts:
        return None
    cells = f"{delimiter}\n{delimiter}".join(texts).split(delimiter)
    marks = cells[width :: width + 1]
    if len(cells) != len(texts) * (width + 1) - 1 or marks.count("\n") != len(marks):
        return None
    return [cells[place :: width + 1] for place in range(width)]


def _quoted_columns(texts: list[str], delimiter: str, width: int) -> list[list[str]] | None:
    """The columns of lines with quotes, if each line is one row of `width` cells, else None."""
    reader = csv.reader(texts, delimiter=delimiter, strict=True)
    try:
        rows = list(reader)
    except csv.Error:
        return None
    if width < 2 or len(rows) != len(texts) or set(map(len, rows)) != {width}:
        return None
    return [[row[place] for row in rows] for place in range(width)]


def _cells(text: str, delimiter: str) -> list[str] | None:
    """The cells of one line of CSV; None if a quote does not close."""
    try:
        return next(csv.reader([text], delimiter=delimiter, strict=True), [])
    except csv.Error:
        return None


def _block_of(line: NDArray[np.int64], rows: list[list[str]], places: dict[str, int], broken: list[Broken] | None = None) -> Block:
    turned: list[Column] = list(zip(*rows, strict=True))
    columns: dict[str, Column] = {name: turned[place] if turned else () for name, place in places.items()}
    return Block(line=line, columns=columns, broken=broken or [])


def _only_broken(broken: list[Broken]) -> Block:
    return Block(line=np.zeros(0, dtype=np.int64), columns={}, broken=broken)


def _objects(lines: Lines, broken: list[Broken]) -> tuple[list[int], list[dict[str, object]]]:
    """The objects of these lines and where they stand; what is none goes to `broken`."""
    numbers: list[int] = []
    objects: list[dict[str, object]] = []
    clean = not has_surrogate(lines.text)
    for number, text in enumerate(lines.texts, lines.first):
        if not text.strip():
            continue
        found = _parse_object(text) if clean or not has_surrogate(text) else "encoding"
        if isinstance(found, str):
            broken.append(Broken(line=number, field="line", value=show(text), reason=found))
        else:
            numbers.append(number)
            objects.append(found)
    return numbers, objects


def _parse_object(text: str) -> dict[str, object] | str:
    """The object, or why it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return "not_json"
    return found if isinstance(found, dict) else "not_an_object"
