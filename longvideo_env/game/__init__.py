"""The game: its rules, protocol, words and reward, and the state machine that plays it."""
