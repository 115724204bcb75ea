"""The built-in tools, one file each. Found through the entry points `longvideo_env.tools`."""
