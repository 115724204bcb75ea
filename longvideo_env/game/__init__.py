"""The game: its rules, language, words and reward, and the state machine that plays it."""
