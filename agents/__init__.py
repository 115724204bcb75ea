"""Grounding agents, vision agents and master policies for `longvideo_env`."""
