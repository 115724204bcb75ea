"""The taskset `longtvqa` for verifiers, which finds tasksets by the name of a top-level module."""

from longvideo_env.integrations.verifiers import LongTVQAPlay, LongTVQATaskset

__all__ = ["LongTVQAPlay", "LongTVQATaskset"]
