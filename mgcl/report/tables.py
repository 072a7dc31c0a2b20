"""One table as Markdown, as text for a terminal, as CSV and as LaTeX."""

import csv
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

NOTHING = "–"  # a cell without a value
WIDTH = 120  # of a terminal's table, columns


class Spread(NamedTuple):
    """A mean and the sample standard deviation about it."""

    mean: float
    deviation: float


class Difference(float):
    """A number that is printed with its sign."""


Cell = str | bool | int | float | Spread | None


class Table(NamedTuple):
    """Words stand on the left, numbers and what is missing of them on the right."""

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    @property
    def is_number(self) -> list[bool]:
        """Whether a column holds numbers only."""
        columns = list(zip(*self.rows, strict=True)) or [("",)] * len(self.header)
        return [not any(isinstance(cell, str) for cell in column) for column in columns]

    @property
    def words(self) -> list[list[str]]:
        """The rows as they are printed."""
        return [[printed(cell) for cell in row] for row in self.rows]


def number(value: float | None, digits: int = 2) -> str:
    """A number as a cell; None and NaN give the cell without a value."""
    return NOTHING if value is None or value != value else f"{value:.{digits}f}"


def printed(cell: Cell) -> str:
    """A cell as it is printed: numbers to two digits, ticks for what is on."""
    match cell:
        case bool():
            return "✓" if cell else ""
        case str() | int():
            return str(cell)
        case Difference():
            return f"{cell:+.2f}"
        case Spread():
            return f"{number(cell.mean)} ± {number(cell.deviation)}"
        case _:
            return number(cell)


def markdown(table: Table) -> str:
    """GitHub's form."""
    header, *rows = [
        [" ".join(cell.replace("|", r"\|").split()) for cell in line]
        for line in [table.header, *table.words]
    ]
    return _tabulated(header, rows, "pipe", table.is_number) + "\n"


def text(table: Table, *, width: int = WIDTH) -> str:
    """Aligned with spaces; headers and long first cells go over several lines."""
    heads = [min(14, max(8, *map(len, name.split()))) for name in table.header]
    first = max(12, *(len(row[0]) for row in [table.header, *table.words]))
    for _ in range(2):  # as wide as it wants to be, then narrower by what is too much
        limits = [first, *[None] * (len(heads) - 1)]
        found = _tabulated(
            *(table.header, table.words, "simple", table.is_number),
            maxheadercolwidths=heads,
            maxcolwidths=limits if table.rows else None,
        )
        first = max(12, first - max(0, max(map(len, found.splitlines())) - width))
    return found + "\n"


def comma_separated(table: Table) -> str:
    """CSV with a header line."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([table.header, *table.words])
    return buffer.getvalue()


def latex(table: Table, *, caption: str) -> str:
    """A table environment in booktabs' form."""
    from tabulate import LATEX_ESCAPE_RULES

    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{''.join(LATEX_ESCAPE_RULES.get(c, c) for c in caption)}}}",
        _tabulated(table.header, table.words, "latex_booktabs", table.is_number),
        r"\end{table}",
    ]
    found = "\n".join(lines) + "\n"
    return found.replace("±", r"$\pm$").replace("✓", r"\checkmark{}").replace("–", "--")


def _tabulated(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    form: str,
    is_number: Sequence[bool],
    **limits: Any,
) -> str:
    from tabulate import tabulate

    sides = ["right" if right else "left" for right in is_number]
    return tabulate(rows, header, tablefmt=form, colalign=sides, disable_numparse=True, **limits)
