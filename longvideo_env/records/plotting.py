"""Style and saving of the project's plots. Callers import matplotlib."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longvideo_env.records.files import storage_error

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 150
# Colours of Okabe and Ito without yellow, which is hard to see on white, and two of Paul Tol's.
# Readers with a colour vision deficiency can distinguish them.
COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
    *("#882255", "#999933"),
)
DARK, GREY = "#222222", "#666666"
STYLE: dict[str, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.xmargin": 0.02,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlesize": 11,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": DARK,
    "ytick.labelcolor": DARK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "text.parse_math": False,  # a dollar sign in a name is literal
    "svg.fonttype": "none",  # keep text as text, for search and screen readers
    "svg.hashsalt": "longvideo-env",  # otherwise ids in the file differ each time
}


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write STEM.png and STEM.svg atomically.

    Raises:
        StorageError: The files cannot be written.
    """
    # Without date and version, the same curves give the same bytes.
    metadata = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
    written = []
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        for kind in ("png", "svg"):
            picture = io.BytesIO()
            figure.savefig(picture, format=kind, dpi=DPI, metadata=metadata[kind])
            path = stem.with_name(f"{stem.name}.{kind}")
            partial = path.with_name(path.name + ".partial")
            partial.write_bytes(picture.getvalue())
            os.replace(partial, path)
            written.append(path)
    except OSError as error:
        raise storage_error(stem, error) from error
    return written
