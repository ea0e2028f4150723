"""Destinations under simulated writers, readers and stores: the library's own code, stepped by a seeded scheduler."""
