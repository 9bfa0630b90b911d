"""Small charts as inline SVG: a frame with ticks, lines, dots, bars of uncertainty. Colours come from the page's CSS classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 560.0, 320.0
LEFT, RIGHT, TOP, BOTTOM = 62.0, 16.0, 14.0, 46.0


@dataclass(slots=True)
class Axis:
    """One axis: its range, its ticks with their words, log or linear."""

    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    title: str
    log: bool = False

    def share(self, value: float) -> float:
        """Where a value lies, 0 to 1, kept on the axis."""
        value = min(max(value, self.low), self.high)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


@dataclass(slots=True)
class Chart:
    """A frame into which series are drawn. `title` is what a screen reader says."""

    x: Axis
    y: Axis
    title: str
    height: float = HEIGHT
    left: float = LEFT
    parts: list[str] = field(default_factory=list)
    legend: list[tuple[str, str]] = field(default_factory=list)

    def px(self, value: float) -> float:
        """Pixels from the left."""
        return self.left + self.x.share(value) * (WIDTH - self.left - RIGHT)

    def py(self, value: float) -> float:
        """Pixels from the top."""
        return self.height - BOTTOM - self.y.share(value) * (self.height - TOP - BOTTOM)

    def line(self, points: Sequence[tuple[float, float]], css: str, name: str = "", *, steps: bool = False) -> None:
        """A line through points; with `steps` as a staircase."""
        if name:
            self.legend.append((css, name))
        path, before = [], None
        for x, y in points:
            if steps and before is not None:
                path.append(f"L{self.px(x):.1f} {self.py(before):.1f}")
            path.append(f"{'L' if path else 'M'}{self.px(x):.1f} {self.py(y):.1f}")
            before = y
        self.parts.append(f'<path class="line {css}" d="{" ".join(path)}"/>')

    def dots(self, points: Sequence[tuple[float, float, str]], css: str, name: str = "", *, radius: float = 4.0) -> None:
        """Dots with a word for whoever points at them."""
        if name:
            self.legend.append((css, name))
        for x, y, words in points:
            self.parts.append(
                f'<circle class="dot {css}" cx="{self.px(x):.1f}" cy="{self.py(y):.1f}" r="{radius}"><title>{escape(words)}</title></circle>'
            )

    def at_least(self, points: Sequence[tuple[float, float, str]], css: str) -> None:
        """Triangles pointing up: the value is at least this."""
        for x, y, words in points:
            px, py = self.px(x), self.py(y)
            corners = f"{px - 5:.1f},{py + 4:.1f} {px + 5:.1f},{py + 4:.1f} {px:.1f},{py - 5:.1f}"
            self.parts.append(f'<polygon class="dot {css}" points="{corners}"><title>{escape(words)}</title></polygon>')

    def upright(self, x: float, low: float, high: float, css: str) -> None:
        """An interval along y."""
        self.parts.append(f'<path class="line {css} thin" d="M{self.px(x):.1f} {self.py(low):.1f}V{self.py(high):.1f}"/>')

    def flat(self, y: float, low: float, high: float, css: str) -> None:
        """An interval along x, y in pixels from the top."""
        self.parts.append(f'<path class="line {css} thin" d="M{self.px(low):.1f} {y:.1f}H{self.px(high):.1f}"/>')

    def mark(self, x: float, top: float, bottom: float, css: str) -> None:
        """A short upright stroke at x, between two heights in pixels."""
        self.parts.append(f'<path class="line {css}" d="M{self.px(x):.1f} {top:.1f}V{bottom:.1f}"/>')

    def say(self, x: float, y: float, words: str, css: str = "say", anchor: str = "start") -> None:
        """Text at pixels."""
        self.parts.append(f'<text class="{css}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>')

    def svg(self) -> str:
        """The figure with its legend."""
        bottom, right = self.height - BOTTOM, WIDTH - RIGHT
        frame = [f'<path class="frame" d="M{self.left} {TOP}V{bottom}H{right}"/>']
        for value, words in self.x.ticks:
            at = self.px(value)
            frame.append(f'<path class="grid" d="M{at:.1f} {TOP}V{bottom}"/><text class="tick" x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">')
            frame.append(f"{escape(words)}</text>")
        for value, words in self.y.ticks:
            at = self.py(value)
            frame.append(
                f'<path class="grid" d="M{self.left} {at:.1f}H{right}"/><text class="tick" x="{self.left - 7}" y="{at + 4:.1f}" text-anchor="end">'
            )
            frame.append(f"{escape(words)}</text>")
        frame.append(f'<text class="axis" x="{(self.left + right) / 2:.1f}" y="{self.height - 8}" text-anchor="middle">{escape(self.x.title)}</text>')
        middle = (TOP + bottom) / 2
        if self.y.title:
            frame.append(f'<text class="axis" transform="translate(14 {middle:.1f}) rotate(-90)" text-anchor="middle">{escape(self.y.title)}</text>')
        keys = "".join(f'<span class="key"><i class="{css}"></i>{escape(name)}</span>' for css, name in self.legend)
        drawn = "".join(frame) + "".join(self.parts)
        return f'<svg viewBox="0 0 {WIDTH:g} {self.height:g}" role="img" aria-label="{escape(self.title)}">{drawn}</svg><p class="keys">{keys}</p>'


def decades(low: float, high: float, words: Callable[[float], str] = lambda value: f"{value:g}") -> list[tuple[float, str]]:
    """A tick at every power of ten."""
    return [(10.0**n, words(10.0**n)) for n in range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)]
