"""Models that hear and see: speech, text in pictures, captions, embeddings."""
