"""The commands of `longvideo-env`, one file each."""
