"""Styles, scripts and pictures as finished bytes: packed once, known by their tag, read again when a file has changed."""

from __future__ import annotations

from pathlib import Path

from dashboard.shelf import Sheet, sheet_of

STATIC = Path(__file__).resolve().parent / "static"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff2": "font/woff2",
    ".webmanifest": "application/manifest+json",
    "": "text/plain; charset=utf-8",
}


class Assets:
    """The files of `static/`; nothing outside it has a name here, whatever a path says."""

    def __init__(self, folder: Path = STATIC) -> None:
        self._files = {
            f"/static/{path.relative_to(folder).as_posix()}": path for path in sorted(folder.rglob("*")) if path.suffix in TYPES and path.is_file()
        }
        self._sheets: dict[str, Sheet] = {}

    def find(self, path: str) -> tuple[Sheet, str] | None:
        """(bytes, media type) of a path, None for anything else."""
        file = self._files.get(path)
        if file is None:
            return None
        version = str(file.stat().st_mtime_ns)
        sheet = self._sheets.get(path)
        if sheet is None or sheet.version != version:
            sheet = self._sheets[path] = sheet_of(file.read_bytes(), version, level=9)
        return sheet, TYPES[file.suffix]
