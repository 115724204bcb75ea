"""All texts that the environment shows to the master agent."""
