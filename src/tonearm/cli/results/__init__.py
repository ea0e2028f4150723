"""What is printed of a finished run: its state, its files, its exports, and pictures of single tracks."""
