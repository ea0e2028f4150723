"""A package that adds to tonearm; docs/add-a-model.md, add-a-source.md and add-an-exporter.md show its files."""
