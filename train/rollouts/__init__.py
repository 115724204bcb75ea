"""Episodes for TRL's trainer."""
