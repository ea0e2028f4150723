"""Embeddings as a Parquet file for a search index, as they are or projected by PCA fitted on the library."""

from __future__ import annotations

import dataclasses
import posixpath
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors.numpy import save

from tonearm.exports.exporter import ExportRequest, Written
from tonearm.exports.output import whole_binary
from tonearm.exports.projection import Moments, Projection
from tonearm.runs.places import KEY
from tonearm.runs.rows import track_rows
from tonearm.storage import filesystems

FACTS = [KEY, "uri", "title", "artist", "genre"]


@dataclasses.dataclass(frozen=True)
class Embeddings:
    """One row per track that is ok: its key, names, and all embeddings.

    Attributes:
        dim: project each embedding to so many numbers. The projections go beside the file as
            ``STEM.projection.safetensors`` (``HEAD.mean``, ``HEAD.components``, ``HEAD.explained``), so that what comes
            later, such as a query, can be projected the same way.
    """

    endings: ClassVar[tuple[str, ...]] = (".parquet",)
    is_folder: ClassVar[bool] = False

    dim: int | None = None

    def write(self, request: ExportRequest) -> Written:
        """Write the file.

        Raises:
            UsageError: a projection to more numbers than an embedding has, or than there are tracks.
        """
        projections = _fit(request, self.dim) if self.dim else {}
        kind = pa.list_(pa.float32())
        fields = [pa.field(name, pa.int64() if name == KEY else pa.string()) for name in FACTS]
        embeddings = _columns(request)
        schema = pa.schema([*fields, *(pa.field(name, kind) for name in embeddings)])
        num_tracks = 0
        with whole_binary(request.output) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for batch in request.batches(schema.names, only_ok=True):
                columns = [batch[name] for name in FACTS]
                for name in embeddings:
                    columns.append(_projected(batch[name], projections[name]) if name in projections else batch[name])
                writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
                num_tracks += batch.num_rows
        if projections:
            _write_projections(projections, request.output)
        return Written(num_tracks, num_files=2 if projections else 1)


def _columns(request: ExportRequest) -> list[str]:
    return [*track_rows.EMBEDDINGS, *(head.embedding for head in request.rows.heads)]


def _fit(request: ExportRequest, dim: int) -> dict[str, Projection]:
    columns = _columns(request)
    moments = {name: Moments() for name in columns}
    for batch in request.batches(columns, only_ok=True):
        for name in columns:
            moments[name].add(_matrix(batch[name].drop_null()))
    # A head that was off has no embeddings, and needs no projection.
    return {name: sums.fit(dim) for name, sums in moments.items() if sums.count}


def _matrix(array: pa.ListArray) -> NDArray[np.float32]:
    if not len(array):
        return np.empty((0, 0), np.float32)
    values: NDArray[np.float32] = array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), -1)
    return values


def _projected(array: pa.ListArray, projection: Projection) -> pa.ListArray:
    present = array.is_valid()
    values = projection.apply(_matrix(array.drop_null())) if len(array) > array.null_count else np.empty((0, 1))
    lengths = np.where(present.to_numpy(zero_copy_only=False), len(projection.components), 0)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    return pa.ListArray.from_arrays(
        offsets, pa.array(values.astype(np.float32).ravel(), pa.float32()), mask=array.is_null()
    )


def _write_projections(projections: dict[str, Projection], output: str) -> None:
    tensors = {}
    for name, projection in projections.items():
        head = name.removesuffix("_embedding")
        tensors[f"{head}.mean"] = projection.mean
        tensors[f"{head}.components"] = projection.components
        tensors[f"{head}.explained"] = projection.explained
    filesystems.write_bytes(f"{posixpath.splitext(output)[0]}.projection.safetensors", save(tensors))
