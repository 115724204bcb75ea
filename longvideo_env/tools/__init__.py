"""Tools of the master agent, and the toolbox that calls them."""
