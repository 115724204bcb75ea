"""Train on the game with TRL's own trainers through `environment_factory`.

    from trl import GRPOConfig, GRPOTrainer
    from longvideo_env.integrations.trl import LongTVQA

    spec = LongTVQA(dataset="mini", split="train")
    trainer = GRPOTrainer(
        "Qwen/Qwen3-4B",
        args=GRPOConfig(max_completion_length=2048),
        train_dataset=spec.train_dataset,
        environment_factory=spec.environment_factory,
    )

The environment's public methods are the game's tools and `answer`. The reward is the game's. TRL
ends a rollout at the first reply without a call. That reply counts as a malformed turn, and the
remaining turns are lost. If a reply has several calls, each costs a turn. TRL itself answers calls
of unknown tools; these cost no turn.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from longvideo_env.config import EnvConfig, live_parts
from longvideo_env.errors import EpisodeStateError, MissingExtraError, SpecError
from longvideo_env.game.protocol.base import MalformedKind
from longvideo_env.integrations.calling import CalledEpisode, CallStage
from longvideo_env.schema import Qid
from longvideo_env.tools.tool import Tool

if TYPE_CHECKING:
    from datasets import Dataset

RESERVED = ("reset", "get_reward")
"""Methods that TRL calls itself. No tool may have these names."""


class LongTVQA:
    """A split of the game for TRL's trainers.

    Args:
        dataset: See `EnvConfig`.
        split: Its split.
        limit: Only the first N questions.
        seed: Seed of the tools' random draws and of shuffled options, as in `env.reset(seed=...)`.
        options: The other fields of `EnvConfig`, such as `tools`, `reward` or `max_turns`.

    Raises:
        LongVideoEnvError: An option or the dataset is invalid, or a tool's types do not fit into a
            chat template.
    """

    def __init__(
        self,
        dataset: Any = "mini",
        split: str = "train",
        *,
        limit: int | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        if limit is not None and limit < 1:
            raise SpecError(f"limit must be at least 1, got {limit}.")
        config = EnvConfig.from_mapping({"dataset": dataset, "split": split, **options})
        self._stage = CallStage(config)
        self._limit = limit
        self._seed = seed
        self._check()

    @cached_property
    def train_dataset(self) -> Dataset:
        """One row per question: `qid`, and `prompt`, to which the environment adds the opening.

        Contains no gold.
        """
        try:
            from datasets import Dataset
        except ImportError as error:
            raise MissingExtraError("datasets", "train") from error
        tasks = self._stage.dataset.tasks
        n = len(tasks) if self._limit is None else min(self._limit, len(tasks))
        questions = [tasks[i].question for i in range(n)]
        return Dataset.from_dict(
            {
                "prompt": [self._prompt(len(question.options)) for question in questions],
                "qid": [str(question.qid) for question in questions],
            }
        )

    @property
    def environment_factory(self) -> Callable[[], Any]:
        """A factory of environments. It can be pickled, as the asynchronous trainer requires."""
        return self._make

    def _make(self) -> Any:
        return self._class(self._stage, self._seed)

    def _prompt(self, n_options: int) -> list[dict[str, str]]:
        rules = self._stage.rules(n_options)
        system = [] if rules is None else [{"role": "system", "content": rules}]
        return [*system, {"role": "user", "content": ""}]

    @cached_property
    def _class(self) -> type[_Environment]:
        methods = {tool.name: _method(tool) for tool in self._stage.tools}
        return type("LongTVQA", (_Environment,), {**methods, "__module__": __name__})

    def _check(self) -> None:
        for tool in self._stage.tools:
            if tool.name in RESERVED or tool.name.startswith("_"):
                raise SpecError(f"the name {tool.name!r} is reserved by TRL. Fix: rename the tool.")
        try:
            from transformers.utils.chat_template_utils import get_json_schema
        except ImportError as error:
            raise MissingExtraError("transformers", "train") from error
        for tool in self._stage.tools:
            try:
                get_json_schema(_method(tool))
            except Exception as error:
                raise SpecError(
                    f"tool {tool.name!r} does not fit into a chat template: {error}. Fix: give its "
                    "arguments plain types."
                ) from error

    def __getstate__(self) -> dict[str, Any]:
        if live := live_parts(self._stage.config):
            raise SpecError(
                f"the environment cannot be sent to another process: its option {live[0]} holds an "
                "object. Fix: name it as module:attribute."
            )
        return {"_stage": self._stage, "_limit": self._limit, "_seed": self._seed}


class _Environment:
    """The environment for TRL. The tools are methods of a subclass."""

    def __init__(self, stage: CallStage, seed: int) -> None:
        self._stage = stage
        self._seed = seed
        self._playing: CalledEpisode | None = None

    def reset(self, qid: Qid, **row: Any) -> str:
        """Open a question. Returns the opening, which TRL adds to the prompt."""
        self._playing = self._stage.open(qid, self._seed)
        return self._playing.start()

    def get_reward(self) -> float | None:
        """The game's reward. None if a tool failed or the answer is unknown."""
        play = self._now()
        if not play.over:
            play.refuse(MalformedKind.NO_ACTION, "")
        return play.score().reward

    def _now(self) -> CalledEpisode:
        if self._playing is None:
            raise EpisodeStateError("no episode was started. Fix: call reset(qid=...) first.")
        return self._playing


def _method(tool: Tool) -> Callable[..., str]:
    """A tool as a method, with signature, type hints and docstring from its declaration."""

    def method(self: _Environment, **values: Any) -> str:
        return self._now().call(tool.name, values)

    fields = tool.arguments.model_fields
    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)] + [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if item.is_required() else item.default,
            annotation=item.annotation,
        )
        for name, item in fields.items()
    ]
    hints: Mapping[str, Any] = {name: item.annotation for name, item in fields.items()}
    told = [f"    {name}: {' '.join(tool.described(name).split())}" for name in fields]
    method.__name__ = method.__qualname__ = tool.name
    method.__doc__ = "\n".join([tool.purpose, *(["", "Args:", *told] if told else [])])
    method.__annotations__ = {**hints, "return": str}
    method.__signature__ = inspect.Signature(parameters, return_annotation=str)  # type: ignore[attr-defined]
    return method
