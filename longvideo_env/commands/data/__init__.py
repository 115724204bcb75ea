"""Commands about questions and films: what a dataset holds, and how one is made."""
