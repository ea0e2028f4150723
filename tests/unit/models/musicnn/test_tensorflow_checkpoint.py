"""TensorFlow's checkpoints are read without TensorFlow, and any damage is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.musicnn_wheel import small_variables, write_checkpoint
from tonearm.errors import CheckpointError
from tonearm.models.musicnn.tensorflow_checkpoint import masked_crc, read_index, read_variables

DATA = Path(__file__).parents[3] / "data"


TENSORFLOWS = DATA / "tensorflow_checkpoint" / "model"


def files_of(prefix: Path) -> tuple[bytes, bytes]:
    return Path(f"{prefix}.index").read_bytes(), Path(f"{prefix}.data-00000-of-00001").read_bytes()


def test_a_crc_is_that_of_rfc_3720() -> None:
    unmasked = ((masked_crc(bytes(32)) - 0xA282EAD8) & 0xFFFFFFFF) << 15
    assert (unmasked | unmasked >> 32) & 0xFFFFFFFF == 0x8A9136AA


@pytest.mark.parametrize("by_tensorflow", [True, False])
def test_variables_are_read_as_they_were_written(by_tensorflow: bool, tmp_path: Path) -> None:
    expected = small_variables()
    if not by_tensorflow:
        write_checkpoint(tmp_path / "model", expected, block_entries=3)
    index, data = files_of(TENSORFLOWS if by_tensorflow else tmp_path / "model")
    assert set(read_index(index)) == set(expected)
    found = read_variables(index, data, expected)
    for name, values in expected.items():
        assert found[name].shape == values.shape and found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], values.astype(np.float32))


def test_any_damage_to_an_index_is_found() -> None:
    index, data = files_of(TENSORFLOWS)
    whole, undetected = read_index(index), []
    for place in range(0, len(index), 7):
        damaged = index[:place] + bytes([index[place] ^ 0x41]) + index[place + 1 :]
        try:
            if read_index(damaged) != whole:
                undetected.append(place)
        except CheckpointError:
            pass
    assert not undetected
    for length in (0, 8, 47, 48, len(index) - 1):
        with pytest.raises(CheckpointError):
            read_index(index[:length])
    with pytest.raises(CheckpointError, match=r"layer_3/kernel/Adam is damaged"):
        read_variables(index, data.replace(small_variables()["layer_3/kernel/Adam"].tobytes(), bytes(36)), whole)
    with pytest.raises(CheckpointError, match=r"no variable conv2d/kernel"):
        read_variables(index, data, ["conv2d/kernel"])
