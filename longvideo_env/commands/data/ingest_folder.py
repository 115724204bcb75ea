"""`ingest` for a folder of films. Each film gets its own folder. Finished ones are skipped."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from longvideo_env.commands.data.ingest import IngestOptions, ingest, report
from longvideo_env.commands.exit_codes import EXIT_DONE, EXIT_FINDINGS
from longvideo_env.commands.shared import message_prefix, progress_bar
from longvideo_env.errors import DataError, DatasetNotFoundError, SpecError

_FILMS = {
    *(".mkv", ".mp4", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".ts", ".m2ts", ".wmv"),
    *(".flv", ".ogv", ".3gp", ".vob", ".mp3", ".wav", ".flac", ".m4a", ".ogg", ".opus", ".aac"),
}
_TEXTS = (".srt", ".vtt", ".ass", ".ssa", ".ttml", ".json3", ".smi")
_LANGUAGE = re.compile(r"\.[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8})?")


def ingest_folder(
    folder: Path, out: Path, texts: dict[str, str | None], options: IngestOptions
) -> int:
    """Ingest each film of a folder. Returns the exit code.

    Args:
        folder: The folder with the films.
        out: Each film gets a folder in it, under the film's name.
        texts: The folders of subtitles and captions, or None.
        options: How to cut a film.

    Raises:
        DatasetNotFoundError: There is no film, or a path in `texts` is not a folder.
    """
    films = sorted(p for p in folder.iterdir() if p.suffix.lower() in _FILMS and p.is_file())
    if not films:
        raise DatasetNotFoundError("expected films.", folder, None, "check the path.")
    folders = {name: Path(path) for name, path in texts.items() if path is not None}
    for path in folders.values():
        if not path.is_dir():
            raise DatasetNotFoundError("expected a folder.", path, None, "give a folder of texts.")
    stems = Counter(film.stem for film in films)
    failed = 0
    with progress_bar() as bar:
        task = bar.add_task(folder.name, total=len(films))
        for film in films:
            target = out / (film.stem if stems[film.stem] == 1 else film.name)
            files = {name: find_text(film, path) for name, path in folders.items()}

            def tick(what: str, time_s: float, length_s: float | None, film: Path = film) -> None:
                of = f" of {length_s:.0f}" if length_s else ""
                bar.update(task, description=f"{film.name}: {what} {time_s:.0f}{of} s")

            if not _is_done(target, film, options):
                try:
                    record = ingest(film, target, **files, options=options, tick=tick)
                    report(target, record)
                except (DataError, SpecError) as error:
                    failed += 1
                    sys.stderr.write(f"{message_prefix('ingest')}{error}\n")
            bar.advance(task)
    done = len(films) - failed
    sys.stdout.write(f"{out}: {done:,} of {len(films):,} films are ready\n")
    return EXIT_FINDINGS if failed else EXIT_DONE


def find_text(film: Path, folder: Path) -> Path | None:
    """The text file of a film: `film.srt`, else `film.en.srt`, else any language."""
    ranked = []
    for path in folder.iterdir():
        suffix, language = path.suffix.lower(), path.stem.removeprefix(film.stem)
        named = path.stem.startswith(film.stem) and (not language or _LANGUAGE.fullmatch(language))
        if suffix in _TEXTS and named:
            rank = (bool(language), not language.lower().startswith(".en"), _TEXTS.index(suffix))
            ranked.append((*rank, path))
    return min(ranked)[-1] if ranked else None


def _is_done(target: Path, film: Path, options: IngestOptions) -> bool:
    """Whether a folder has this film, cut with these options."""
    try:
        record = json.loads((target / "film.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    expected = {"film": film.name, "n_bytes": film.stat().st_size}
    if not isinstance(record, dict) or any(record.get(k) != v for k, v in expected.items()):
        return False
    # An older release lacked some options. It cut as their defaults do.
    return {**asdict(IngestOptions()), **record.get("options", {})} == asdict(options)
