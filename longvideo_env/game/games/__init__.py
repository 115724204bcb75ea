"""Games, one file each: a game bundles tools, words, protocol, reward and rules."""
