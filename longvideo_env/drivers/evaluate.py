"""Play the questions of a dataset with a policy, in one call.

    import longvideo_env as lv

    def shout(messages):                 # any function from messages to text
        return "<answer>a0</answer>"

    result = lv.evaluate(shout, dataset="mini", split="test", limit=20)
    print(result.accuracy, result.interval)

The result also compares, reports, and becomes a table: see `Result`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from longvideo_env.specs import entry_point_names


class Result(Protocol):
    """What a run came to. `eval.runs.one_call.RunResult` is one."""

    folder: Path
    summary: dict[str, Any]

    @property
    def accuracy(self) -> float | None:
        """Share of right answers among the episodes that were scored; None where none was."""
        ...

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the accuracy, clustered by video."""
        ...

    def to_pandas(self) -> Any:
        """A table with a row for each episode."""
        ...

    def compare(self, other: Result) -> dict[str, Any]:
        """This run less the other, question by question."""
        ...

    def report(self, path: str | Path) -> Path:
        """Write one HTML page of every episode."""
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
    """Play questions with a policy, and sum up how it did.

    Args:
        policy: A spec, such as `openai:gpt-4o` or `my_parts:guess`; or a function
            `messages -> str`, sync or async.
        dataset: A spec or a folder, a list of dicts, a pandas DataFrame, a `datasets.Dataset`, or
            a `Dataset`.
        split: Its split.
        out: Where the run's folder goes, the same that `longvideo-env evaluate --out` writes; the
            same call resumes it. Without it nothing is kept once the result is let go.
        questions: Only these: ids in a list, or text as `--questions` takes it, such as
            `12,40-60`, `@FILE`, `failed:RUN` or `wrong:RUN`.
        limit: Only so many questions, drawn over the videos.
        shuffle: Seed of that draw; if given, questions are also played in the order drawn.
        samples: Plays of each question.
        seed: Seed of everything drawn.
        concurrency: Episodes in flight.
        overwrite: Start anew where a run lies already.
        progress: Whether to draw a progress bar.
        budget: The most that the run may use: `usd`, `tokens` and `seconds`.
        episode_budget: The same of each episode.
        fail_above: Stop once more than this share of all episodes have failed.
        ray: Play on a cluster of Ray: `auto`, `local` or `HOST:PORT`, or a dict with `address`,
            `workers`, `cpus_per_worker` and `gpus_per_worker`. `concurrency` is then that of each
            worker.
        allow_blind: Go on where the vision or grounding agent has nothing to go on in any video.
        generation: How a model writes: the fields of `GenerationSettings`.
        options: The other fields of `EnvConfig`, such as `tools`, `reward` or `max_turns`.

    Raises:
        BlindAgentError: An agent has nothing to go on: no frames, no captions, no lines.
        LongVideoEnvError: An option has no meaning, or the data is wrong.
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
