"""Play the questions of a dataset with a policy, in one call.

    import longvideo_env as lv

    def shout(messages):                 # any function from messages to text
        return "<answer>a0</answer>"

    result = lv.evaluate(shout, dataset="mini", split="test", limit=20)
    print(result.accuracy, result.interval)

The result can also be compared, reported, and turned into a table: see `Result`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from longvideo_env.specs import entry_point_names


class Result(Protocol):
    """The result of a run. `eval.runs.one_call.RunResult` implements it."""

    folder: Path
    summary: dict[str, Any]

    @property
    def accuracy(self) -> float | None:
        """Share of right answers among scored episodes. None if no episode was scored."""
        ...

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the accuracy, clustered by video."""
        ...

    def to_pandas(self) -> Any:
        """A DataFrame with one row per episode."""
        ...

    def compare(self, other: Result) -> dict[str, Any]:
        """Compare with another run, question by question: this run minus the other."""
        ...

    def report(self, path: str | Path) -> Path:
        """Write one HTML page with every episode."""
        ...


def evaluate(
    policy: Any,
    *,
    dataset: Any = "mini",
    split: str = "val",
    out: str | Path | None = None,
    questions: Any = None,
    limit: int | None = None,
    shuffle: int | None = None,
    samples: int = 1,
    seed: int = 0,
    concurrency: int = 64,
    overwrite: bool = False,
    progress: bool = True,
    budget: dict[str, float] | None = None,
    episode_budget: dict[str, float] | None = None,
    fail_above: float | None = None,
    ray: str | dict[str, Any] | None = None,
    allow_blind: bool = False,
    generation: dict[str, Any] | None = None,
    **options: Any,
) -> Result:
    """Play questions with a policy and return the result.

    Args:
        policy: A spec, such as `openai:gpt-4o` or `my_parts:guess`; or a function
            `messages -> str`, sync or async.
        dataset: A spec or a folder, a list of dicts, a pandas DataFrame, a `datasets.Dataset`, or
            a `Dataset`.
        split: Its split.
        out: Folder for the run, as `longvideo-env evaluate --out` writes it. The same call resumes
            the run. Without it, a temporary folder is deleted together with the result.
        questions: Only these questions: a list of ids, or text as for `--questions`, such as
            `12,40-60`, `@FILE`, `failed:RUN` or `wrong:RUN`.
        limit: Number of questions to play, drawn evenly over the videos.
        shuffle: Seed of that draw. If given, questions are also played in the order drawn.
        samples: Plays of each question.
        seed: Seed of all random draws.
        concurrency: Episodes in flight.
        overwrite: Replace a run that is already in `out`.
        progress: Whether to draw a progress bar.
        budget: Limits of the run: `usd`, `tokens` and `seconds`.
        episode_budget: The same limits for each episode.
        fail_above: Stop when more than this share of all episodes has failed.
        ray: Play on a Ray cluster: `auto`, `local` or `HOST:PORT`, or a dict with `address`,
            `workers`, `cpus_per_worker` and `gpus_per_worker`. `concurrency` then applies to each
            worker.
        allow_blind: Continue even if the vision or grounding agent has no input in any video.
        generation: Sampling settings: the fields of `GenerationSettings`.
        options: The other fields of `EnvConfig`, such as `tools`, `reward` or `max_turns`.

    Raises:
        BlindAgentError: An agent has no input: no frames, no captions, no subtitles.
        LongVideoEnvError: An option or the data is invalid.
    """
    result: Result = entry_point_names("api")["evaluate"].load()(
        policy,
        out=out,
        questions=questions,
        limit=limit,
        shuffle=shuffle,
        samples=samples,
        seed=seed,
        concurrency=concurrency,
        overwrite=overwrite,
        progress=progress,
        budget=budget or {},
        episode_budget=episode_budget or {},
        fail_above=fail_above,
        ray=ray,
        allow_blind=allow_blind,
        generation=generation or {},
        options={"dataset": dataset, "split": split, **options},
    )
    return result
