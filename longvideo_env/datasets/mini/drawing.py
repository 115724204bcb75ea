"""Frames of the mini world: positions of the things in them, and drawing with Pillow.

A frame shows labelled figures side by side on a coloured background. Each figure holds one thing in
the right hand. Frames are numbered from 1 at 3 per second, as in TVQA.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longvideo_env.datasets.mini import vocabulary as words
from longvideo_env.datasets.mini.world import CLIP_S, Figure, Scene
from longvideo_env.errors import MissingExtraError

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

FPS = 3
FRAME_STEP = 60
"""By default every 60th frame is drawn: one per 20 seconds."""

WIDTH, HEIGHT = 192, 96

RGB = {
    "red": (220, 30, 30),
    "blue": (30, 60, 220),
    "green": (20, 150, 40),
    "yellow": (250, 220, 20),
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "pink": (255, 120, 190),
    "brown": (120, 70, 20),
    "purple": (130, 30, 160),
    "grey": (128, 128, 128),
}
"""The colours of things. Nothing else in a frame has these colours."""

_SKIN, _COAT, _INK = (235, 195, 160), (70, 85, 95), (25, 25, 30)
_FLOOR = (175, 165, 150)
_WALLS = {
    place: (150 + 7 * i, 225 - 6 * i, 190 + (17 * i) % 50) for i, place in enumerate(words.PLACES)
}
# Offsets of body and head in pixels, so that an action is visible.
_POSES = {
    "sits": (0, 8), "stands": (0, 0), "waves": (2, 0), "sleeps": (0, 12),
    "dances": (4, -2), "kneels": (0, 6), "jumps": (0, -6), "points": (-2, 0),
}  # fmt: skip
_THING = 18  # pixels, width and height


def figure_boxes(figures: Sequence[Figure], holder: Figure) -> dict[str, list[dict[str, Any]]]:
    """Boxes, as in TVQA+, of one figure and what it holds, in the default frames that show it."""
    position = list(figures).index(holder)
    spots = {
        holder.person: body_box(position, len(figures)),
        holder.thing: thing_box(position, len(figures)),
    }
    boxes: dict[str, list[dict[str, Any]]] = {}
    for frame in frame_numbers(FRAME_STEP):
        if _visible(holder, frame):
            boxes[str(frame)] = [
                {
                    "img_id": frame,
                    "left": left,
                    "top": top,
                    "width": right - left,
                    "height": bottom - top,
                    "label": label,
                }
                for label, (left, top, right, bottom) in spots.items()
            ]
    return boxes


def frame_numbers(step: int) -> range:
    """Every `step`-th frame of a clip, from the first."""
    return range(1, CLIP_S * FPS + 1, step)


def body_box(position: int, n: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom, in pixels, of the figure at `position` among `n`."""
    middle = WIDTH * (2 * position + 1) // (2 * n)
    return middle - 22, 18, middle + 6, 82


def thing_box(position: int, n: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom, in pixels, of what a figure holds."""
    _, top, right, _ = body_box(position, n)
    return right + 2, top + 24, right + 2 + _THING, top + 24 + _THING


def draw_scene(scene: Scene, folder: Path, step: int = FRAME_STEP) -> None:
    """Draw a clip's frames into a new folder, as `00001.png` onward.

    Raises:
        MissingExtraError: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise MissingExtraError("pillow", "video") from error
    folder.mkdir(parents=True)
    for frame in frame_numbers(step):
        image = Image.new("RGB", (WIDTH, HEIGHT), _WALLS[scene.place])
        draw = ImageDraw.Draw(image)
        draw.rectangle((0, 80, WIDTH, HEIGHT), fill=_FLOOR)
        _write(draw, (3, 2), scene.place)
        for position, figure in enumerate(scene.figures):
            if _visible(figure, frame):
                _draw_figure(draw, figure, position, len(scene.figures))
        # There are few colours: a palette keeps all of them, at a third of the size.
        image.quantize(64).save(folder / f"{frame:05d}.png", optimize=True)


def _visible(figure: Figure, frame: int) -> bool:
    return figure.start_s <= (frame - 1) / FPS < figure.end_s


def _draw_figure(draw: ImageDraw, figure: Figure, position: int, n: int) -> None:
    left, top, right, bottom = body_box(position, n)
    aside, down = _POSES[figure.action]
    middle = (left + right) // 2 + aside
    draw.ellipse((middle - 7, top + 4 + down, middle + 7, top + 18 + down), fill=_SKIN)
    draw.rectangle((middle - 8, top + 19 + down, middle + 8, bottom - 4), fill=_COAT)
    draw.line((middle + 8, top + 30 + down, right + 2, top + 32), fill=_SKIN, width=3)
    _write(draw, (left, bottom + 1), f"{figure.person}")
    _draw_thing(draw, figure, thing_box(position, n))


def _draw_thing(draw: ImageDraw, figure: Figure, box: tuple[int, int, int, int]) -> None:
    """Draw the thing's shape in its colour."""
    left, top, right, bottom = box
    fill = RGB[figure.colour]
    x, y = (left + right) // 2, (top + bottom) // 2
    rounds = {"ball": box, "cup": (left, top + 6, right, bottom), "drum": (left, top + 3, right, y)}
    bars: dict[str, list[tuple[int, int, int, int]]] = {
        "box": [(left, top, right, bottom)],
        "book": [(left, top, x - 1, bottom), (x + 1, top, right, bottom)],
        "drum": [(left, top + 6, right, bottom)],
        "cup": [(left, top + 3, right, y)],
        "key": [(left, y - 2, right, y + 2), (right - 7, y, right - 3, bottom)],
        "lamp": [(x - 1, y, x + 1, bottom), (left + 4, bottom - 3, right - 4, bottom)],
        "flag": [(left, top, left + 2, bottom), (left, top, right, y)],
        "hat": [(left, bottom - 6, right, bottom - 2), (left + 5, top + 4, right - 5, bottom - 5)],
    }
    corners = {
        "kite": [(x, top), (right, y), (x, bottom), (left, y)],
        "lamp": [(left + 5, top), (right - 5, top), (right, y), (left, y)],
    }
    if figure.thing in rounds:
        draw.ellipse(rounds[figure.thing], fill=fill)
    for bar in bars.get(figure.thing, []):
        draw.rectangle(bar, fill=fill)
    if figure.thing in corners:
        draw.polygon(corners[figure.thing], fill=fill)


def _write(draw: ImageDraw, at: tuple[int, int], text: str) -> None:
    from PIL import ImageFont

    # The bitmap font ships with every Pillow, so the same seed draws the same letters.
    draw.text(at, text, fill=_INK, font=ImageFont.load_default_imagefont())
