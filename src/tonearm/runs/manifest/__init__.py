"""The listed tracks of a destination: ``manifest`` writes and reads them, in Parquet ``manifest_parts``.

``manifest_marker`` says which parts count and of which source; ``manifest_merge`` joins a listing to earlier ones.
"""
