"""Training of policies on TRL, with the rollouts of `longvideo_env`."""
