"""Reading checkpoints of TensorFlow 1 without TensorFlow.

``PREFIX.index`` is a table in LevelDB's format (github.com/google/leveldb/blob/main/doc/table_format.md) of names and
protocol buffers that say where in ``PREFIX.data-00000-of-00001`` each variable is (``tensor_bundle.proto`` and
``tensor_shape.proto`` in tensorflow/core). Every part has its CRC-32C, and all that is read is checked.
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tonearm.errors import CheckpointError

MAGIC, FOOTER_BYTES, TRAILER_BYTES = 0xDB4775248B80FB57, 48, 5
# The types of ``types.proto`` that weights may have, by their numbers there.
TYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8", 19: "<f2"}
Field = int | bytes


class Entry(NamedTuple):
    """Where a variable is, and what: its shape, NumPy's name of its type, bytes, and their masked CRC."""

    shape: tuple[int, ...]
    dtype: str
    offset: int
    num_bytes: int
    crc: int


def read_variables(index: bytes, data: bytes, names: Iterable[str]) -> dict[str, NDArray[np.float32]]:
    """Return the variables of these names as float32.

    Raises:
        CheckpointError: a file that is damaged or of another format, or a variable that is not there.
    """
    entries = read_index(index)
    variables = {}
    for name in names:
        if name not in entries:
            raise CheckpointError(f"the checkpoint has no variable {name}; expected that of the published musicnn")
        entry = entries[name]
        stored = data[entry.offset : entry.offset + entry.num_bytes]
        if len(stored) != entry.num_bytes or masked_crc(stored) != entry.crc:
            raise CheckpointError(f"the variable {name} is damaged: its bytes are not those that were written")
        variables[name] = np.frombuffer(stored, entry.dtype).reshape(entry.shape).astype(np.float32)
    return variables


def read_index(index: bytes) -> dict[str, Entry]:
    """Return what a checkpoint's ``.index`` says of each variable.

    Raises:
        CheckpointError: it is damaged, or of another format.
    """
    if len(index) < FOOTER_BYTES or struct.unpack_from("<Q", index, len(index) - 8)[0] != MAGIC:
        raise CheckpointError("the checkpoint's index does not end as LevelDB's tables do; expected TensorFlow's V2")
    try:
        footer = _Reader(index[-FOOTER_BYTES:])
        footer.varint(), footer.varint()  # the place of the metaindex block, which is not needed
        entries = {}
        for _, handle in _entries(_block(index, footer.varint(), footer.varint())):
            reader = _Reader(handle)
            for key, value in _entries(_block(index, reader.varint(), reader.varint())):
                if key:
                    entries[key.decode()] = _entry(value)
                else:
                    _check_header(value)
    except (IndexError, KeyError, struct.error, TypeError, UnicodeDecodeError, ValueError):
        raise CheckpointError("the checkpoint's index cannot be read: it is damaged, or of a newer format") from None
    return entries


def masked_crc(data: bytes) -> int:
    """Return the CRC-32C of ``data``, masked as LevelDB stores it."""
    # LevelDB masks it because a CRC over bytes that contain CRCs is problematic (leveldb/util/crc32c.h).
    crc, table = 0xFFFFFFFF, _crc_table()
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


@functools.cache
def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


class _Reader:
    """Bytes that are read from the front."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.place]
            self.place += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    def take(self, num_bytes: int) -> bytes:
        taken = self.data[self.place : self.place + num_bytes]
        if len(taken) != num_bytes:
            raise ValueError("too short")
        self.place += num_bytes
        return taken


def _block(index: bytes, offset: int, num_bytes: int) -> bytes:
    end = offset + num_bytes
    (crc,) = struct.unpack_from("<I", index, end + 1)
    if index[end]:
        raise CheckpointError("the checkpoint's index is compressed, expected a plain one as TensorFlow writes it")
    if masked_crc(index[offset : end + 1]) != crc:
        raise CheckpointError("the checkpoint's index is damaged: its bytes are not those that were written")
    return index[offset:end]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values; each key shares its beginning with the one before it."""
    (num_restarts,) = struct.unpack_from("<I", block, len(block) - 4)
    reader, key = _Reader(block[: len(block) - 4 * (num_restarts + 1)]), b""
    while reader.place < len(reader.data):
        shared, num_new, value = reader.varint(), reader.varint(), reader.varint()
        key = key[:shared] + reader.take(num_new)
        yield key, reader.take(value)


def _fields(message: bytes) -> Iterator[tuple[int, Field]]:
    """Yield the fields of a protocol buffer: whole numbers, and bytes for what is nested."""
    reader = _Reader(message)
    while reader.place < len(message):
        tag = reader.varint()
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            yield number, reader.varint()
        elif kind == 2:
            yield number, reader.take(reader.varint())
        else:
            yield number, int.from_bytes(reader.take({1: 8, 5: 4}[kind]), "little")


def _check_header(message: bytes) -> None:
    fields = dict(_fields(message))
    if fields.get(1, 1) != 1 or fields.get(2, 0):
        raise CheckpointError("the checkpoint is in several files, or big-endian; expected one little-endian file")


def _entry(message: bytes) -> Entry:
    fields = dict(_fields(message))
    dims = [_number(dict(_fields(_bytes(value))).get(1, 0)) for _, value in _fields(_bytes(fields.get(2, b"")))]
    dtype, size = TYPES.get(_number(fields[1])), _number(fields.get(5, 0))
    if dtype is None:
        raise ValueError("of another type")
    if math.prod(dims) * np.dtype(dtype).itemsize != size or fields.get(3, 0):
        raise ValueError("of another size, or in another file")
    return Entry(tuple(dims), dtype, _number(fields.get(4, 0)), size, _number(fields.get(6, 0)))


def _number(field: Field) -> int:
    if not isinstance(field, int):
        raise TypeError(field)
    return field


def _bytes(field: Field) -> bytes:
    if not isinstance(field, bytes):
        raise TypeError(field)
    return field
