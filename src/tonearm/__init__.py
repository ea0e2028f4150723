"""tonearm labels music libraries: one row per track with its genre, tags, embeddings and a timeline."""

__version__ = "0.1.0"
