"""Tools of the master agent, and the one place where they are called."""
