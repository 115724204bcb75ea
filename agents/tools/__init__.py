"""The tools that ship, one file each; found by the entry points `longvideo_env.tools`."""
