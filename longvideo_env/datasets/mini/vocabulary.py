"""The closed vocabulary of the mini world: every word is lower case and one token.

The lists share no word, so a word alone tells things from topics. What is seen (places, things,
colours, actions) is never said. What is said (topics, days) is never shown.
"""

from __future__ import annotations

PEOPLE = ("ada", "ben", "cleo", "dan", "eva", "finn", "gus", "hana", "ivo", "kim")
PLACES = (
    "harbour", "kitchen", "garden", "station", "library", "market", "beach", "tower", "bridge",
    "school",
)  # fmt: skip
THINGS = ("kite", "lamp", "cup", "book", "drum", "key", "ball", "hat", "flag", "box")
COLOURS = (
    "red", "blue", "green", "yellow", "black", "white", "pink", "brown", "purple", "grey",
)  # fmt: skip
ACTIONS = ("sits", "stands", "waves", "sleeps", "dances", "kneels", "jumps", "points")
TOPICS = (
    "wedding", "race", "storm", "concert", "exam", "party", "trip", "sale", "match", "parade",
    "feast", "meeting",
)  # fmt: skip
DAYS = (
    "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "christmas",
    "easter", "halloween",
)  # fmt: skip

VISIBLE = frozenset((*PLACES, *THINGS, *COLOURS, *ACTIONS))
SPOKEN = frozenset((*TOPICS, *DAYS))

SMALL_TALK = (
    "good morning .",
    "how are you ?",
    "i am very tired .",
    "it is late .",
    "are you ready ?",
    "we must go now .",
    "yes , very well .",
    "no , not yet .",
    "thank you , my friend .",
    "wait for me !",
    "please say it again .",
    "come here , please .",
)

TOLD = "the {topic} is on {day} ."
"""The line that states a fact."""

PASSING = "see you on {day} ."
"""A day that belongs to no topic."""

# Each pair names person and topic three times, so that BM25 ranks the decoy above the clip with the
# fact. It contains no other word of the question except "the", because more words would attract
# questions on other topics.
HEARSAY = (
    (
        "oh {teller} , always the {topic} , the {topic} !",
        "{teller} again , {teller} with the {topic} !",
    ),
    (
        "{teller} with the {topic} , the {topic} !",
        "oh {teller} , {teller} , only the {topic} !",
    ),
    (
        "{teller} , {teller} , always the {topic} !",
        "yes , the {topic} , {teller} with the {topic} !",
    ),
)

SEEN_PLACE = "the place is the {place} ."
SEEN_THING = "{person} holds a {colour} {thing} ."
SEEN_ACTION = "{person} {action} ."

ASK_SAY = "when is the {topic} that {teller} talks about ?"
ASK_LOOK = "when {teller} talks about the {topic} , what colour is the {thing} of {teller} ?"
ASK_COMPARE = (
    "what is seen both when {teller} talks about the {topic} and when {other_teller} talks about "
    "the {other_topic} ?"
)
