"""Files, tables and the manifest of one test."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from tonearm.runs.manifest import manifest, manifest_marker
from tonearm.runs.rows.schema import MANIFEST
from tonearm.sources import track_ref
from tonearm.storage import filesystems


class Library:
    """Files, tables and the manifest of one test; tracks go by their path below the root, or by their key in s3://b."""

    def __init__(self, root: Path) -> None:
        self.root, self.out = root, str(root / "out")

    def path(self, name: str) -> str:
        return str(self.root / name)

    def make(self, *names: str, size: int = 1) -> None:
        for name in names:
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(size))
            os.utime(path, (size, size))

    def drop(self, *names: str) -> None:
        for name in names:
            (self.root / name).unlink()

    def table(self, name: str, *keys: str, size: int = 3) -> str:
        """Write a table of objects in a bucket, which nothing looks up."""
        (self.root / name).write_text("uri,size\n" + "".join(f"s3://b/{key},{size}\n" for key in keys))
        return self.path(name)

    def tag(self, *sources: str, limit: int | None = None, term: int = 0) -> manifest.RunListing:
        return manifest.write_manifest([self.path(source) for source in sources], self.out, limit=limit, term=term)

    def names(self) -> set[str]:
        """Return what is listed, after looking at all that says it and at what lies in the folder."""
        refs = list(manifest.read_tracks(self.out))
        uris = [ref.uri for ref in refs]
        assert len(uris) == len(set(uris)), "listed twice"
        keys = sorted(ref.track_key for ref in refs)
        assert manifest.read_keys(self.out).tolist() == keys
        found = manifest.read_manifest(self.out)
        assert (found.num_tracks, found.num_bytes) == (len(refs), sum(ref.size_bytes or 0 for ref in refs))
        assert found.digest == manifest._keys_digest(np.array(keys, np.int64))
        assert sum(listing.num_tracks for listing in manifest.listings(self.out)) == len(refs)
        for part in found.parts:
            assert pq.read_schema(part).equals(MANIFEST, check_metadata=True)
        marker = manifest_marker.read(self.out)
        assert marker is not None
        markers = {manifest.MARKER, *manifest_marker.of_terms(self.out)[-1:]}
        assert {path.name for path in Path(self.out).iterdir()} == {*markers, *marker.files}, "nothing left over"
        for each in marker.listings:
            own, covered = (
                [(uri, name[-16:]) for name in names for uri in pq.read_table(f"{self.out}/{name}")["uri"].to_pylist()]
                for names in (each.parts, each.covered)
            )
            covers = {uri for uri, _ in covered}
            assert covers <= set(uris) - {uri for uri, _ in own}, "what a listing covers is in another"
            assert len(set(covered)) == len(covers), "no run writes what an earlier one wrote"
        return {uri.removeprefix(f"{self.root}/").removeprefix("s3://b/") for uri in uris}

    def listings(self) -> dict[str, tuple[bool, int, int]]:
        return {
            listing.source.removeprefix(f"{self.root}/"): (listing.is_complete, listing.num_tracks, listing.term)
            for listing in manifest.listings(self.out)
        }

    def make_old(self, *names: str) -> None:
        """Write a manifest of 0.1.0 that lists files, now or no longer there, and tables' objects."""
        folder = Path(self.out)
        folder.mkdir(parents=True)
        uris = [name if "://" in name else self.path(name) for name in names]
        filesystems.write_table(
            f"{folder}/part-00000-0badf00d.parquet", manifest.to_table(list(map(track_ref.make_ref, uris)))
        )
        values = {"num_tracks": len(names), "num_bytes": 0, "skipped": {".txt": 2}, "digest": "0" * 16}
        values["parts"] = ["part-00000-0badf00d.parquet"]
        (folder / manifest.MARKER).write_text(json.dumps(values))
