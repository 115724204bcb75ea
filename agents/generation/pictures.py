"""Images for local models: processors, and frames in their format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from longvideo_env.errors import ToolError


def load_processor(name: str) -> Any:
    """The model's processor. Without torchvision, only its part for images.

    Args:
        name: A folder, or a name on the hub.

    Raises:
        OSError: There is no processor.
        ValueError: The library does not know it.
    """
    from transformers import AutoProcessor

    try:
        return AutoProcessor.from_pretrained(name)
    except ImportError:
        return _processor_without_videos(name)


def _processor_without_videos(name: str) -> Any:
    import transformers
    from transformers.models.auto import processing_auto
    from transformers.utils import hub

    modules: tuple[Any, ...] = (transformers, processing_auto, hub)
    library, mapping, files = modules

    def read(file: str) -> dict[str, Any]:
        path = files.cached_file(name, file, _raise_exceptions_for_missing_entries=False)
        return json.loads(Path(path).read_text(encoding="utf-8")) if path else {}

    settings = read("processor_config.json").get("image_processor") or read(
        "preprocessor_config.json"
    )
    kind = str(settings["image_processor_type"]).removesuffix("Fast").removesuffix("Pil")
    image_class = getattr(library, f"{kind}Pil")
    processor_class = getattr(
        library, mapping.PROCESSOR_MAPPING_NAMES[read("config.json")["model_type"]]
    )

    class NoVideos(library.BaseVideoProcessor):  # type: ignore[misc, name-defined]
        """Placeholder for the video processor. Only images are used."""

        merge_size = temporal_patch_size = 2
        model_input_names: tuple[str, ...] = ()

        def __init__(self) -> None: ...

    tokenizer = library.AutoTokenizer.from_pretrained(name)
    images = image_class.from_pretrained(name)
    processor = processor_class(
        images, tokenizer, NoVideos(), chat_template=tokenizer.chat_template
    )
    processor.save_pretrained = images.save_pretrained  # only the image part exists
    return processor


def opened(path: Path, max_side: int) -> Any:
    """Open an image, scaled down to a longest side of `max_side` pixels.

    Raises:
        ToolError: It cannot be decoded.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            picture = image.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ToolError(f"{path.name} cannot be decoded ({error!s:.100}).") from error
    picture.thumbnail((max_side, max_side))
    return picture
