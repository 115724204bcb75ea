"""Games, one file each: bundles of tools, words, protocol, reward and rules with defaults."""
