"""Tables as text, Markdown, LaTeX, CSV and JSON.

Every command that prints a table has `--format text|md|tex|csv|json`. Except for text, standard
output has only the tables, and all other output goes to standard error.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import rich.table
from rich.console import Console
from rich.text import Text

TEXT = "text"
WIDTH = 160
_WIDEST = 1000
"""A width at which no line of a Markdown table is broken."""

table_format: ContextVar[str] = ContextVar("table_format", default=TEXT)
"""The `--format` of this command."""

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
    """A table of texts. Columns of numbers are aligned right. A missing value is `-`.

    Attributes:
        name: A short name, for labels and the CSV's first column.
        caption: The caption.
        columns: The headings.
        rows: Rows of the same length as `columns`.
        note: A note below the table.
        lines: More lines below the table. They are comments in LaTeX.
    """

    name: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    lines: Sequence[str] = ()

    def is_text(self, column: int) -> bool:
        """Whether a column has words."""
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
    """Tables as LaTeX. They need the package booktabs."""
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
    """One CSV of all tables, with one value per line and its table, row, policy and column."""
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
"""The format of each file extension."""


def table_name(ending: str) -> str:
    """The file name for a format."""
    return f"tables.{ending}"


def to_json(table: Table) -> str:
    """A table as one line of JSON: its caption, and one object per row."""
    rows = [
        {name: _value(cell) for name, cell in zip(_unique(table.columns), row, strict=True)}
        for row in table.rows
    ]
    return json.dumps({"caption": table.caption, "rows": rows}, ensure_ascii=False) + "\n"


def _value(cell: str) -> str | int | float | None:
    if cell == "-":
        return None
    if re.fullmatch(r"[+-]?[0-9]{1,15}", cell):
        return int(cell)
    return float(cell) if re.fullmatch(r"[+-]?[0-9]+\.[0-9]+(?:e[+-]?[0-9]+)?", cell) else cell


def _unique(columns: Sequence[str]) -> list[str]:
    """The headings as unique names. A repeated one gets the name of the column before it too."""
    return [
        f"{columns[i - 1]} {name}" if columns.count(name) > 1 and i else name
        for i, name in enumerate(columns)
    ]


def _plain_csv(table: Table) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([table.columns, *table.rows])
    return out.getvalue() + "\n"


_ONE: Mapping[str, Callable[[Table], str]] = {
    "md": lambda table: to_markdown([table]),
    "tex": lambda table: to_latex([table]),
    "csv": _plain_csv,
    "json": to_json,
}
TABLE_FORMATS = (TEXT, *_ONE)


def from_rich(table: rich.table.Table) -> Table:
    """Convert a table for the terminal into a table of texts."""
    columns = [_plain(column.header) for column in table.columns]
    cells = [[_plain(cell) for cell in column.cells] for column in table.columns]
    caption = _plain(table.title) if table.title else columns[0]
    name = re.sub(r"[^a-z0-9]+", "-", caption.lower()).strip("-")
    return Table(name, caption, columns, list(zip(*cells, strict=True)))


def markdown_lines(table: rich.table.Table) -> list[str]:
    """A table for the terminal, made with `box=rich.box.MARKDOWN`, as lines of a file."""
    text = io.StringIO()
    Console(file=text, width=_WIDEST).print(table)
    return [line.rstrip() for line in text.getvalue().splitlines() if line.strip()]


def _plain(cell: Any) -> str:
    return cell.plain if isinstance(cell, Text) else Text.from_markup(str(cell)).plain


class TableConsole(Console):
    """Standard output for tables alone, in the format of `--format`."""

    def __init__(self, style: str) -> None:
        super().__init__(width=WIDTH)
        self._style, self._beside = style, Console(stderr=True, soft_wrap=True)

    def print(self, *objects: Any, **more: Any) -> None:
        """Write tables to standard output, and all other output to standard error."""
        for item in objects or ("",):
            if isinstance(item, rich.table.Table):
                item = from_rich(item)
            if isinstance(item, Table):
                sys.stdout.write(_ONE[self._style](item))
            else:
                self._beside.print(item, **more)


def output_console() -> Console:
    """Standard output. A pipe or a log file has no width, so it gets a wide one."""
    if (style := table_format.get()) != TEXT:
        return TableConsole(style)
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)


def print_tables(tables: Sequence[Table], console: Console) -> None:
    """Print tables of texts: as Markdown, or in the format of `--format`."""
    if (style := table_format.get()) == "tex":
        sys.stdout.write(to_latex(tables))
        return
    if style != TEXT:
        console.print(*tables)
        return
    for line in to_markdown(tables).splitlines():
        console.print(line, highlight=False, markup=False, soft_wrap=True)
