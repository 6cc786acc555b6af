"""A cache of a tracking server's finished runs in a Parquet file, so that a report requests only the other runs.

A server needs about 6 ms for each run that it returns: a minute for ten thousand. Finished runs do not change. The
cache is keyed by the server's address and by the experiment's id and creation time, since another server behind the
same address has other creation times. `reports.store.rest_store.RestStore` finds out what is new, changed and deleted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablative.reports.store.store_tables import encoded
from ablative.study.core.files import replacing
from ablative.study.home import tracking_tags
from ablative.study.home.task_state import FINISHED

if TYPE_CHECKING:
    import pyarrow

FORMAT = 2
"""Version of the file's content; another one is as good as none."""
MAX_AGE_SECONDS = 86_400.0
"""An older cache is not used: a finished run may have been edited through MLflow's API."""


@dataclass(frozen=True)
class Memory:
    """Finished runs as the server returned them."""

    runs: pyarrow.Table
    """Runs with their parameters and tags, in the table that `nested` makes."""
    whole: float
    """When everything was last asked for, seconds since 1970."""
    latest: float
    """When the server was last asked at all."""


@dataclass(frozen=True)
class Kept:
    """The file of one experiment of one server."""

    path: Path
    source: str
    """Which server and experiment: what the file says of another is not used."""

    @classmethod
    def of(cls, folder: Path, source: str) -> Kept:
        return cls(folder / f"{hashlib.sha256(source.encode()).hexdigest()[:16]}.parquet", source)

    def load(self) -> Memory | None:
        """None where there is no file, or one that is torn, too old or of something else."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self.path, page_checksum_verification=True) as file:
                note = json.loads(file.schema_arrow.metadata[b"ablate"])
                if (note["format"], note["source"]) != (FORMAT, self.source):
                    return None
                if not 0 <= time.time() - note["whole"] < MAX_AGE_SECONDS:
                    return None
                return Memory(file.read().cast(_schema()), note["whole"], note["latest"])
        except (OSError, pa.ArrowException, ValueError, KeyError, TypeError):
            return None

    def save(self, memory: Memory) -> None:
        """Replace the file in one step: other readers and writers see either the old or the new. A folder that
        cannot be written costs the next report time, nothing else."""
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        note = {"format": FORMAT, "source": self.source, "whole": memory.whole, "latest": memory.latest}
        finished = memory.runs.filter(pc.field("finished"))
        table = finished.replace_schema_metadata({b"ablate": json.dumps(note).encode()})
        with contextlib.suppress(OSError), replacing(self.path, durable=False) as file:
            pq.write_table(table, file, compression="zstd", write_page_checksum=True)


def nested(runs: Iterable[Mapping[str, Any]]) -> pyarrow.Table:
    """Runs as the server's JSON has them, one row each; the last word on a run that came twice counts."""
    import pyarrow as pa

    rows = {run["info"]["run_id"]: _row(run["info"], run.get("data", {})) for run in runs}
    return pa.Table.from_pylist(list(rows.values()), schema=_schema())


def flat(runs: pyarrow.Table) -> dict[str, pyarrow.Table]:
    """The same as the rows of MLflow's tables: `runs`, `tags` and `metrics`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    runs = runs.combine_chunks()
    numbers = pa.array(range(runs.num_rows), type=pa.int64())

    def items(name: str) -> pyarrow.Table:
        column = runs[name].combine_chunks()
        owners = numbers.take(pc.list_parent_indices(column))
        found = pc.list_flatten(column)
        fields = {field.name: pc.struct_field(found, field.name) for field in found.type}
        return pa.table({"run": owners, **fields})

    own = {name: runs[name] for name in ("run_uuid", "start_time", "end_time")}
    return {"runs": pa.table({"run": numbers, **own}), "tags": items("tags"), "metrics": items("metrics")}


def metric_value(metric: Mapping[str, Any]) -> tuple[float, bool]:
    """(value, is_nan) as the database has it: protobuf's JSON writes NaN as a word, and MLflow's tables as 0."""
    return encoded(float(metric.get("value", 0.0)))


def _row(info: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    tags = {tag["key"]: tag["value"] for tag in data.get("tags", ()) if tag["key"] in tracking_tags.READ}
    values = [(metric["key"], *metric_value(metric)) for metric in data.get("metrics", ())]
    return {
        "run_uuid": info["run_id"],
        "start_time": info.get("start_time"),
        "end_time": info.get("end_time"),
        # The status is written after everything else: what reads as finished is whole.
        "finished": info.get("status") == "FINISHED" and tags.get(tracking_tags.STATE) in FINISHED,
        "tags": [{"key": key, "value": value} for key, value in tags.items()],
        "metrics": [{"key": key, "value": value, "is_nan": is_nan} for key, value, is_nan in values],
    }


def _schema() -> pyarrow.Schema:
    import pyarrow as pa

    tag = pa.struct([("key", pa.string()), ("value", pa.string())])
    metric = pa.struct([("key", pa.string()), ("value", pa.float64()), ("is_nan", pa.bool_())])
    return pa.schema(
        [
            ("run_uuid", pa.string()),
            ("start_time", pa.int64()),
            ("end_time", pa.int64()),
            ("finished", pa.bool_()),
            ("tags", pa.list_(tag)),
            ("metrics", pa.list_(metric)),
        ]
    )
