"""Tables as Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

_LATEX = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}
_NUMBER = re.compile(r"[-+0-9.e]+\Z")
_INTERVAL = re.compile(r"[0-9.]+-[0-9.]+\Z")


@dataclass(frozen=True)
class Table:
    """A table of texts. Columns of numbers stand right; what has no value is `-`.

    Attributes:
        name: Short, for labels and the CSV's first column.
        caption: What it shows.
        columns: The headings.
        rows: Each as long as `columns`.
        note: Below it.
        lines: What else stands below it, a line each; a comment in LaTeX.
    """

    name: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    lines: Sequence[str] = ()

    def is_text(self, column: int) -> bool:
        """Whether a column holds words."""
        cells = (row[column] for row in self.rows)
        return any(char.isalpha() for cell in cells if not _NUMBER.match(cell) for char in cell)


def to_markdown(tables: Sequence[Table]) -> str:
    """Tables as Markdown, with their captions as headings."""
    return "\n".join(_markdown(table) for table in tables)


def _markdown(table: Table) -> str:
    rows = [[cell.replace("|", "\\|") for cell in row] for row in (table.columns, *table.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    text = [table.is_text(i) for i in range(len(widths))]
    lines = [
        "| "
        + " | ".join(
            cell.ljust(width) if left else cell.rjust(width)
            for cell, width, left in zip(row, widths, text, strict=True)
        )
        + " |"
        for row in rows
    ]
    rule = (
        "-" * (width + 1) + ("-" if left else ":") for width, left in zip(widths, text, strict=True)
    )
    lines.insert(1, f"|{'|'.join(rule)}|")
    note = [table.note, ""] if table.note else []
    note += [*(f"- {line}" for line in table.lines), ""] if table.lines else []
    return "\n".join([f"### {table.caption}", "", *lines, "", *note])


def to_latex(tables: Sequence[Table]) -> str:
    """Tables as LaTeX; they need the package booktabs."""
    return "% \\usepackage{booktabs}\n" + "\n".join(_latex(table) for table in tables)


def _latex(table: Table) -> str:
    columns = "".join("l" if table.is_text(i) else "r" for i in range(len(table.columns)))
    body = []
    for i, row in enumerate(table.rows):
        if i and table.is_text(1) and row[0] != table.rows[i - 1][0]:
            body.append(r"\midrule")  # another policy
        body.append(" & ".join(map(_escape, row)) + r" \\")
    return "\n".join(
        [
            r"\begin{table}[t]",
            r"\centering\small",
            rf"\caption{{{_escape(table.caption)}. {_escape(table.note)}}}",
            rf"\label{{tab:{table.name}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(map(_escape, table.columns)) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            *(f"% {line}" for line in table.lines),
            "",
        ]
    )


def _escape(text: str) -> str:
    if text == "-":
        return "--"
    if _INTERVAL.match(text):
        return text.replace("-", "--")
    return "".join(_LATEX.get(char, char) for char in text)


def to_csv(tables: Sequence[Table]) -> str:
    """One CSV of all tables, a value a line: table, row, policy, column, value."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["table", "row", "policy", "variant", "column", "value"])
    for table in tables:
        with_variant = "variant" in table.columns
        for number, row in enumerate(table.rows, start=1):
            variant = row[1] if with_variant else ""
            first = 2 if with_variant else 1
            for column, value in zip(table.columns[first:], row[first:], strict=True):
                if value != "-":
                    writer.writerow([table.name, number, row[0], variant, column, value])
    return out.getvalue()


FORMATS: Mapping[str, Callable[[Sequence[Table]], str]] = {
    "md": to_markdown,
    "tex": to_latex,
    "csv": to_csv,
}
"""By the ending of the file."""


def table_name(ending: str) -> str:
    """The file's name for a format."""
    return f"tables.{ending}"
