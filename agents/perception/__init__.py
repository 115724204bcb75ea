"""Perception models: speech, text in frames, captions, embeddings."""
