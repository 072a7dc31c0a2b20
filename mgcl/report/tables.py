"""One table as Markdown, as text for a terminal, as CSV and as LaTeX."""

import csv
import io
import itertools
import re
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

NOTHING = "–"  # a cell without a value

_NUMBER = re.compile(r"[-+]?[\d.]+( ± [\d.]+)?( %)?|✓|–|")
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "✓": r"\checkmark", "–": "--",
}  # fmt: skip


class Table(NamedTuple):
    """Cells as they are printed; numbers stand on the right."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    @property
    def is_number(self) -> list[bool]:
        """Whether a column holds numbers only."""
        columns = zip(*self.rows, strict=True) if self.rows else [[""]] * len(self.header)
        return [all(_NUMBER.fullmatch(cell) for cell in column) for column in columns]


def number(value: float | None, digits: int = 2) -> str:
    """A number as a cell; None and NaN give the cell without a value."""
    return NOTHING if value is None or value != value else f"{value:.{digits}f}"


def markdown(table: Table) -> str:
    """GitHub's form."""
    rule = ["---:" if right else "---" for right in table.is_number]
    lines = [table.header, rule, *table.rows]
    return "".join("| " + " | ".join(map(_markdown_cell, line)) + " |\n" for line in lines)


def text(table: Table, *, width: int = 120) -> str:
    """Aligned with spaces; long headers and long first cells go over several lines."""
    widths = [
        max(min(len(name), 8), *(len(cell) for cell in [*column, *name.split()]))
        for name, *column in zip(table.header, *table.rows, strict=True)
    ]
    widths[0] = max(12, min(widths[0], width - sum(widths[1:]) - 2 * (len(widths) - 1)))
    header = _line(table.header, widths, table.is_number)
    rule = "  ".join("-" * w for w in widths) + "\n"
    return header + rule + "".join(_line(row, widths, table.is_number) for row in table.rows)


def comma_separated(table: Table) -> str:
    """CSV with a header line."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([table.header, *table.rows])
    return buffer.getvalue()


def latex(table: Table, *, caption: str) -> str:
    """A table environment in booktabs' form."""
    columns = "".join("r" if right else "l" for right in table.is_number)
    body = [" & ".join(map(_latex_cell, row)) + r" \\" for row in table.rows]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex_cell(caption)}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(map(_latex_cell, table.header)) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str], widths: Sequence[int], is_number: Sequence[bool]) -> str:
    """One row of the table, as many lines as its longest cell needs."""
    wrapped = [textwrap.wrap(cell, w) or [""] for cell, w in zip(cells, widths, strict=True)]
    lines = []
    for parts in itertools.zip_longest(*wrapped, fillvalue=""):
        columns = zip(parts, widths, is_number, strict=True)
        aligned = [part.rjust(w) if right else part.ljust(w) for part, w, right in columns]
        lines.append("  ".join(aligned).rstrip() + "\n")
    return "".join(lines)


def _markdown_cell(cell: str) -> str:
    return cell.replace("|", r"\|").replace("\n", " ")


def _latex_cell(cell: str) -> str:
    return "".join(_LATEX.get(character, character) for character in cell)
