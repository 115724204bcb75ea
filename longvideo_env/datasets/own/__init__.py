"""Your own questions: tables, rows in memory, ingested films, and their side files."""
