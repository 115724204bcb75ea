"""Multi-turn text environments for agents that answer questions about long videos.

Importing this package registers the environment `LongTVQA-v0` with Gymnasium.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import gymnasium as _gym

from longvideo_env.config import EnvConfig
from longvideo_env.datasets import Dataset, load_dataset
from longvideo_env.drivers.env import LongTVQAEnv
from longvideo_env.drivers.evaluate import evaluate
from longvideo_env.drivers.rollout import RolloutEngine
from longvideo_env.errors import LongVideoEnvError
from longvideo_env.game.episode import Episode
from longvideo_env.records.trajectory import Trajectory, read_trajectories
from longvideo_env.schema import Gold, Question, Task, Video
from longvideo_env.tools.tool import Tool, ToolCall, ToolReply, tool

__all__ = [
    "Dataset",
    "EnvConfig",
    "Episode",
    "Gold",
    "LongTVQAEnv",
    "LongVideoEnvError",
    "Question",
    "RolloutEngine",
    "Task",
    "Tool",
    "ToolCall",
    "ToolReply",
    "Trajectory",
    "Video",
    "evaluate",
    "load_dataset",
    "read_trajectories",
    "tool",
]

try:
    __version__ = version("longvideo-env")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0+unknown"

_gym.register(id="LongTVQA-v0", entry_point="longvideo_env.drivers.env:LongTVQAEnv")
