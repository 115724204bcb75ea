"""Own questions: tables, rows in memory, films that were ingested, and the files beside them."""
