"""The taskset `longtvqa` of verifiers, which finds a taskset by the name of a top-level module."""

from longvideo_env.integrations.verifiers import LongTVQAPlay, LongTVQATaskset

__all__ = ["LongTVQAPlay", "LongTVQATaskset"]
