"""A head: whether a tone is loud. Its model lies in the package, as package data."""

from pathlib import Path


class Level:
    activation = "single"

    def model(self) -> str:
        return str(Path(__file__).parent / "level")
