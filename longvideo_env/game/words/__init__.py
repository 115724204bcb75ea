"""Every word that the environment says to the master agent."""
