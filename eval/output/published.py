"""The published numbers of LongVideoAgent (arXiv 2512.20618), to print beside ours.

All are accuracies in percent. The paper's table of vision models is left out, because its numbers
could not be checked.
"""

from __future__ import annotations

from typing import NamedTuple

SOURCE = "arXiv 2512.20618"


class Published(NamedTuple):
    """A row of the paper. Values that the paper does not have are None.

    Attributes:
        answer: The share of questions answered right.
        grounding: The share of questions whose gold clip was visited.
    """

    answer: float | None = None
    grounding: float | None = None


class System(NamedTuple):
    """A row of the main table, with accuracies on both datasets."""

    name: str
    longtvqa: float | None
    longtvqa_plus: float


MAIN = (
    System("GPT-4o", 70.78, 78.32),
    System("Gemini-2.5 Pro", 78.90, 81.28),
    System("GPT5-mini", 62.40, 66.70),
    System("GPT5-mini, agentic", 71.11, 78.90),
    System("Grok", 76.90, 81.80),
    System("Grok, agentic", 82.65, 85.60),
    System("DeepSeek-R1", 68.99, 75.04),
    System("DeepSeek-R1, agentic", 70.30, 79.70),
    System("Qwen2.5-3B, agentic", 23.50, 27.70),
    System("Qwen2.5-3B, agentic, with RL", 47.40, 50.10),
    System("Qwen2.5-7B, agentic", 46.10, 60.30),
    System("Qwen2.5-7B, agentic, with RL", 60.20, 70.80),
    System("Qwen3-4B, agentic, with RL", None, 72.0),
)

ABLATIONS = {
    "text-only": Published(64.3),
    "with-grounding": Published(69.0),
    "with-grounding-and-vision": Published(74.8),
    "max-turns-2": Published(68.30, 67.00),
    "max-turns-5": Published(73.67, 71.00),
    "max-turns-10": Published(73.67, 72.00),
    "window-1": Published(70.33, 71.67),
    "window-2": Published(75.00, 78.67),
    "window-3": Published(77.26, 81.94),
}
"""The paper's ablations, by the name of the variant in `eval/tables.py`."""
