"""How training commands begin: options, defaults, and what is checked before torch is there."""
