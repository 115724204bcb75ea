"""Commands that connect the game to other systems."""
