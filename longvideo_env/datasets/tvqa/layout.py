"""Finds the files of a dataset and split. Does not open them.

Layout of a folder; `.json` and `.jsonl` are treated alike:

- questions: `questions_{split}`, `LongTVQA_plus_{split}`, `LongTVQA_{split}`, `tvqa_plus_{split}`
  (also with `_preprocessed`), `tvqa_{split}` (its `test_public` is the split test);
- subtitles: `{prefix}_subtitle(s)_clip_level`, or else `{prefix}_subtitle(s)_episode_level`;
- `subtitles.json` (with times), `captions.json`, `clips.json`, frames under `frames/`, and layers
  made by models under `layers/`; all optional.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from longvideo_env.datasets.fetching.hub import PREFIX, hub_folder
from longvideo_env.errors import DatasetNotFoundError

EMBEDDED = "embedded"
LAYERS = "layers"
"""Name of the folder with layers, inside the folder of a dataset or film."""

_EMBEDDED_FOLDER = Path(__file__).parents[1] / EMBEDDED
_PUBLIC_TEST = "test_public"

_QUESTIONS = re.compile(
    r"(?P<prefix>questions|LongTVQA_plus|LongTVQA|tvqa_plus|tvqa)_(?P<split>test_public|[a-z0-9-]+)"
    r"(?P<variant>_preprocessed)?\.jsonl?\Z",
    re.IGNORECASE,
)
_SUBTITLES = re.compile(
    r"(?P<prefix>.+)_subtitles?_(?P<level>clip|episode)_level\.jsonl?\Z", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class QuestionFile:
    """A file of questions, and the parts of its name.

    Attributes:
        path: The file.
        prefix: Such as `longtvqa_plus`, in lower case. The whole stem if the name is unknown.
        split: The split, or None if the name is unknown.
        variant: Whether it is a `_preprocessed` copy.
    """

    path: Path
    prefix: str
    split: str | None
    variant: bool = False


@dataclass(frozen=True, slots=True)
class Sources:
    """The files of one dataset and split.

    Attributes:
        name: Name of the dataset.
        split: The split, as it was asked for.
        root: The folder of the files.
        questions: The split's questions.
        siblings: Questions of the other splits.
        clip_subtitles: Subtitles by clip, or None.
        episode_subtitles: Subtitles by video, or None. Used if there are none by clip.
        captions: Captions, or None.
        frames_root: Folder of the frames, or None.
        timed_subtitles: Subtitles by clip with times, or None. Used instead of the others where
            present.
        clips: The file with the clips' times in their videos, or None.
        layers: What models heard, read or saw (see `datasets.layers`).
    """

    name: str
    split: str
    root: Path
    questions: Path
    siblings: tuple[Path, ...]
    clip_subtitles: Path | None
    episode_subtitles: Path | None
    captions: Path | None
    frames_root: Path | None
    timed_subtitles: Path | None = None
    clips: Path | None = None
    layers: tuple[Path, ...] = ()

    def _files(self) -> tuple[Path | None, ...]:
        return (
            self.questions,
            self.clip_subtitles,
            self.episode_subtitles,
            self.captions,
            self.timed_subtitles,
            self.clips,
            *self.siblings,
            *self.layers,
        )

    def n_bytes(self) -> int:
        """Total size of the split's files in bytes."""
        texts = self.clip_subtitles or self.episode_subtitles
        files = (self.questions, texts, self.captions, self.timed_subtitles)
        return sum(file.stat().st_size for file in files if file is not None)

    def state(self) -> tuple[tuple[int, int] | None, ...]:
        """Modification time and size of each file: a cache key that changes with edits."""
        stats = [file.stat() if file is not None else None for file in self._files()]
        return tuple((stat.st_mtime_ns, stat.st_size) if stat else None for stat in stats)


def find_sources(dataset: str, split: str, frames_root: str | Path | None) -> Sources:
    """Find the files of a dataset and split.

    Raises:
        DatasetNotFoundError: There are no such files, or several could be meant.
    """
    path = _locate(dataset)
    root = path.parent if path.is_file() else path
    # Filter by name first: a folder may contain thousands of folders with frames.
    entries = (entry for entry in root.iterdir() if entry.suffix.lower() in (".json", ".jsonl"))
    files = sorted(entry for entry in entries if entry.is_file())
    known = [found for file in files if (found := _question_file(file))]
    if path.is_file():
        chosen = _check_split(_question_file(path) or QuestionFile(path, path.stem, None), split)
    else:
        chosen = _choose(root, known, split)
    beside = {file.name: file for file in files}
    return Sources(
        name=_name(dataset, path),
        split=split,
        root=root,
        questions=chosen.path,
        siblings=tuple(_siblings(chosen, known)),
        clip_subtitles=_subtitles(files, chosen.prefix, "clip"),
        episode_subtitles=_subtitles(files, chosen.prefix, "episode"),
        captions=beside.get("captions.json"),
        frames_root=_frames(root, frames_root),
        timed_subtitles=beside.get("subtitles.json"),
        clips=beside.get("clips.json"),
        layers=_layers(root),
    )


def _name(dataset: str, path: Path) -> str:
    if dataset == EMBEDDED:
        return EMBEDDED
    if dataset.startswith(PREFIX):
        return dataset.removeprefix(PREFIX).rpartition("/")[2]
    return path.stem if path.is_file() else path.name


def question_files(folder: Path) -> dict[str, Path]:
    """Question files of a folder by split. A plain file wins over a `_preprocessed` copy."""
    known = [file for path in sorted(folder.iterdir()) if (file := _question_file(path))]
    known.sort(key=lambda file: file.variant, reverse=True)
    return {
        "test" if file.split == _PUBLIC_TEST else file.split: file.path
        for file in known
        if file.split
    }


def splits_of(dataset: str) -> list[str]:
    """The splits of a folder of questions. For a file, the split in its name, if any.

    Raises:
        DatasetNotFoundError: There is no such dataset.
    """
    path = _locate(dataset)
    if path.is_dir():
        return sorted(question_files(path))
    known = _question_file(path)
    return [known.split] if known and known.split else []


def find_texts(folder: str | Path, frames_root: str | Path | None = None) -> Sources:
    """Find the files of a folder without questions. `questions` is then the folder itself.

    Raises:
        DatasetNotFoundError: There is no such folder, or no text or clip in it.
    """
    root = _locate(str(folder))
    files = sorted(path for path in root.iterdir() if path.suffix.lower() in (".json", ".jsonl"))
    beside = {file.name: file for file in files}
    found = Sources(
        name=root.name,
        split="",
        root=root,
        questions=root,
        siblings=tuple(file.path for path in files if (file := _question_file(path))),
        clip_subtitles=_subtitles(files, "", "clip"),
        episode_subtitles=_subtitles(files, "", "episode"),
        captions=beside.get("captions.json"),
        frames_root=_frames(root, frames_root),
        timed_subtitles=beside.get("subtitles.json"),
        clips=beside.get("clips.json"),
        layers=_layers(root),
    )
    if not any(found._files()[1:]):
        raise DatasetNotFoundError(
            "the folder holds no clips: expected clips.json, subtitles.json, captions.json, "
            "subtitles in the layout of LongTVQA, or questions.",
            root,
            None,
            "make such a folder from a film with longvideo-env ingest.",
        )
    return found


def _locate(dataset: str) -> Path:
    if dataset == EMBEDDED:
        path = _EMBEDDED_FOLDER
        mend = "install the package again: its data files are missing."
    elif dataset.startswith(PREFIX):
        return hub_folder(dataset)
    else:
        path = Path(dataset).expanduser().resolve()
        mend = "pass 'mini', 'embedded', or the folder or file with the questions."
    if not dataset.strip() or not (path.is_dir() or path.is_file()):
        raise DatasetNotFoundError(f"no dataset {dataset!r}: {path} does not exist.", mend=mend)
    return path


def _question_file(path: Path) -> QuestionFile | None:
    match = _QUESTIONS.match(path.name)
    # `tvqa_plus.json` is not a split "plus" of TVQA.
    if match is None or match["split"].lower() == "plus":
        return None
    return QuestionFile(
        path, match["prefix"].lower(), match["split"].lower(), match["variant"] is not None
    )


def _same_split(asked: str, found: str | None) -> bool:
    return asked == found or {asked, found} == {"test", _PUBLIC_TEST}


def _check_split(file: QuestionFile, split: str) -> QuestionFile:
    """Check that a file given by path holds the split.

    A file with an unknown name may be any split.
    """
    if file.split is not None and not _same_split(split, file.split):
        raise DatasetNotFoundError(
            f"expected split {split!r}, but the file's name says {file.split!r}.",
            file.path,
            None,
            f"pass split={file.split!r}.",
        )
    return file


def _choose(root: Path, known: list[QuestionFile], split: str) -> QuestionFile:
    splits = sorted({file.split for file in known if file.split})
    if not splits:
        raise DatasetNotFoundError(
            "the folder holds no questions: expected a file such as LongTVQA_plus_train.json, "
            "LongTVQA_train.jsonl, tvqa_plus_train.json or tvqa_train.jsonl.",
            root,
            None,
            "pass the folder with the questions, or the file itself.",
        )
    fitting = [file for file in known if file.split == split]
    fitting = fitting or [file for file in known if _same_split(split, file.split)]
    if not fitting:
        close = (get_close_matches(split, splits, n=1, cutoff=0.4) or splits)[0]
        raise DatasetNotFoundError(
            f"no split {split!r}; splits: {', '.join(splits)}.",
            root,
            None,
            f"pass one of these, such as split={close!r}.",
        )
    plain = [file for file in fitting if not file.variant] or fitting
    if len(plain) > 1:
        names = ", ".join(file.path.name for file in plain)
        raise DatasetNotFoundError(
            f"split {split!r} matches several files: {names}.",
            root,
            None,
            "pass the path of one of them as the dataset.",
        )
    return plain[0]


def _siblings(chosen: QuestionFile, known: list[QuestionFile]) -> Iterator[Path]:
    """Other splits of the same dataset."""
    for file in known:
        if file.path != chosen.path and file.prefix == chosen.prefix:
            yield file.path


def _subtitles(files: list[Path], prefix: str, level: str) -> Path | None:
    """The subtitles with the dataset's prefix, or else the first ones."""
    matches = [(match, file) for file in files if (match := _SUBTITLES.match(file.name))]
    fitting = [
        (match["prefix"].lower() != prefix, file)
        for match, file in matches
        if match["level"].lower() == level
    ]
    return min(fitting)[1] if fitting else None


def _layers(root: Path) -> tuple[Path, ...]:
    return tuple(sorted((root / LAYERS).glob("*.json")))


def _frames(root: Path, frames_root: str | Path | None) -> Path | None:
    if frames_root is None:
        default = root / "frames"
        return default if default.is_dir() else None
    path = Path(frames_root).expanduser().resolve()
    if not path.is_dir():
        raise DatasetNotFoundError(
            "frames_root is not a folder.",
            path,
            None,
            "pass the folder that holds <clip>/00001.jpg or <show>_frames/<clip>/00001.jpg, or "
            "leave frames_root out.",
        )
    return path
