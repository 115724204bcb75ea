"""Commands that open the game to other systems."""
