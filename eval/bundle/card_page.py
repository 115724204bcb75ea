"""A card as HTML that runs no script and loads nothing, and as Markdown."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from eval.bundle.card_facts import EvaluationCard
from eval.report.page import security_policy

STYLE = """
:root { color-scheme: light dark; font: 15px/1.45 system-ui, "Segoe UI", Roboto, sans-serif; }
body { margin: 0; background: light-dark(#ffffff, #131517); color: light-dark(#1b1f23, #e4e7ea); }
main { max-width: 1180px; margin: 0 auto; padding: 20px; }
h1 { font-size: 22px; overflow-wrap: anywhere; }
h2 { font-size: 16px; margin: 0 0 4px; }
.sentence { max-width: 80ch; padding: 10px 14px; border-left: 4px solid #0b57a4; }
.warnings { max-width: 80ch; padding: 8px 14px 8px 34px; border-left: 4px solid #b0261c; }
.sections { columns: 2 420px; column-gap: 28px; }
section { break-inside: avoid; margin-bottom: 18px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { border-top: 1px solid light-dark(#dfe1e0, #33383d); padding: 3px 6px; }
th { text-align: left; font-weight: 400; color: light-dark(#555d66, #a3acb5); width: 45%; }
th, td { vertical-align: top; overflow-wrap: anywhere; }
@media print { main { padding: 0; } :root { font-size: 11px; } }
"""


def to_html(card: EvaluationCard) -> str:
    """The card as one page. Texts of a run are escaped. The page loads and runs nothing."""
    environment = Environment(
        loader=PackageLoader("eval.bundle", ""),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    template = environment.get_template("card.html.j2")
    return template.render(card=card, style=STYLE, policy=security_policy(STYLE, ""))


def to_markdown(card: EvaluationCard) -> str:
    """The card as Markdown."""
    lines = [f"# {_plain(card.title)}", "", _plain(card.sentence), ""]
    lines += [f"- **Mind:** {_plain(line)}" for line in card.warnings]
    for heading, rows in card.sections.items():
        lines += ["", f"## {heading}", "", "| | |", "|---|---|"]
        lines += [f"| {_plain(name)} | {_plain(value)} |" for name, value in rows]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Escape a text, so that it stays in its cell and is not read as markup."""
    for char in "\\`*_[]<>|":
        text = text.replace(char, f"\\{char}")
    return " ".join(text.split())
