"""Test data, each with what made it."""
