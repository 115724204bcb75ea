"""The rules of the game, and the tag sets in which it is played."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from longvideo_env.config import EnvConfig


class ActionKind(str, Enum):
    """What the master agent can do in a turn."""

    LOOK = "look"
    GROUND = "ground"
    ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class TagSet:
    """The tags that a prompt shows. The parser understands every set.

    Attributes:
        name: `reference` (the published code and checkpoints) or `paper`.
        look: Tag of a request to the vision agent.
        reasoning: Tag of the reasoning block.
    """

    name: str
    look: str
    reasoning: str = "reasoning"
    ground: str = "request_grounding"
    answer: str = "answer"
    looked: str = "information"
    grounded: str = "New_clip"


TAG_SETS = {
    "reference": TagSet("reference", look="search"),
    "paper": TagSet("paper", look="visual_query"),
}


@dataclass(frozen=True, slots=True)
class Rules:
    """What an episode needs to know of the environment's configuration.

    Attributes:
        max_turns: Turns the master agent has.
        window: Adjacent clips seen at once.
        tags: The tag set shown.
        grounded_start: Whether the grounding agent names the first clip.
        can_ground: Whether the grounding action is on offer.
        can_look: Whether there is a vision agent.
        instructions: Whether the prompt opens with these rules.
    """

    max_turns: int = 5
    window: int = 1
    tags: TagSet = TAG_SETS["reference"]
    grounded_start: bool = True
    can_ground: bool = True
    can_look: bool = True
    instructions: bool = True

    @classmethod
    def from_config(cls, config: EnvConfig) -> Rules:
        """The rules that a configuration describes."""
        return cls(
            max_turns=config.max_turns,
            window=config.window,
            tags=TAG_SETS[config.tags],
            grounded_start=config.grounding != "none",
            can_ground=config.grounding != "none" and config.ground_action,
            can_look=config.vision != "none",
            instructions=config.instructions,
        )

    @property
    def actions(self) -> tuple[ActionKind, ...]:
        """The actions on offer."""
        return (
            *((ActionKind.LOOK,) if self.can_look else ()),
            *((ActionKind.GROUND,) if self.can_ground else ()),
            ActionKind.ANSWER,
        )
