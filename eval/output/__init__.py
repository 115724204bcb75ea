"""How numbers are printed."""
