"""Local files and folders that are there whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def beside(target: Path) -> Iterator[Path]:
    """Give a path beside ``target``, its folders made, that nothing else uses; what is left there goes with the block.

    Raises:
        OSError: of the file system.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name[:100]}.{uuid.uuid4().hex}.partial")
    try:
        yield partial
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a path beside ``target``; the file that is written there takes its place if the block ends well.

    Raises:
        OSError: of the file system.
    """
    with beside(target) as partial:
        yield partial
        partial.replace(target)


@contextlib.contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """Give a path beside ``target``; the folder that is made there takes its place if the block ends well.

    For who holds a lock on ``target``: for a moment there is neither folder.

    Raises:
        OSError: of the file system.
    """
    with beside(target) as partial:
        yield partial
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)


@contextlib.contextmanager
def first_folder(target: Path) -> Iterator[Path]:
    """Give a path beside ``target``; the folder that is made there becomes ``target`` unless another was first.

    Raises:
        OSError: of the file system.
    """
    with beside(target) as partial:
        yield partial
        try:
            partial.rename(target)
        except OSError:
            if not target.is_dir():
                raise
