"""Records of Parquet and Arrow files, and the row groups of Parquet files, which can be read one by one."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from rxlm.data.fields import RecordError
from rxlm.data.opened_files import INSTALL_HINT, kind_of

TABLES = (".parquet", ".arrow")
_ROWS = 1024


class RowGroup(NamedTuple):
    """A part of a Parquet file: its number, the records before it in the file, and its size in bytes."""

    number: int
    before: int
    num_bytes: int


def row_groups(path: Path) -> list[RowGroup]:
    """Return the row groups of a Parquet file; `RecordError` where it cannot be read."""
    with _open_table(path) as file:
        groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    before = accumulate((group.num_rows for group in groups), initial=0)
    return [
        RowGroup(number, first, group.total_byte_size)
        for number, (first, group) in enumerate(zip(before, groups, strict=False))
    ]


def table_records(path: Path, group: RowGroup | None = None, start: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("record 3", record) for each record of a Parquet file, or of an Arrow file as `datasets` saves them.

    Args:
        path: of the file.
        group: reads one row group of a Parquet file.
        start: records that are passed over, of the file or of the row group.
    """
    number, end = (0, start) if group is None else (group.before, group.before + start)
    with _open_table(path) as file:
        try:
            for batch in _batches(file, group):
                passed = min(max(end - number, 0), batch.num_rows)
                number += passed
                for record in batch.slice(passed).to_pylist():
                    number += 1
                    yield f"record {number}", record
        except Exception as error:  # damaged files raise whatever their bytes lead to
            raise _damaged(path, error, number) from error


def _batches(file: Any, group: RowGroup | None) -> Iterator[Any]:
    if not hasattr(file, "iter_batches"):
        return iter(file)
    return file.iter_batches(_ROWS, row_groups=None if group is None else [group.number])


@contextmanager
def _open_table(path: Path) -> Iterator[Any]:
    try:
        from pyarrow import ipc, parquet  # pyrefly: ignore[missing-import]
    except ImportError as error:
        raise ImportError(f"reading {path} needs the datasets package: {INSTALL_HINT}") from error
    is_parquet = kind_of(path) == ".parquet"
    try:
        file: Any = parquet.ParquetFile(path) if is_parquet else ipc.open_stream(str(path))
        names = (file.schema_arrow if is_parquet else file.schema).names
        if twice := next((name for name in names if names.count(name) > 1), None):
            file.close()
            raise ValueError(f"the column {twice!r} stands twice")
    except Exception as error:
        raise _damaged(path, error) from error
    with file:
        yield file


def _damaged(path: Path, error: Exception, number: int = 0) -> RecordError:
    """Return the error for a file that cannot be read after a record of this number."""
    after = f"{path}, after record {number}," if number else str(path)
    kind = "a Parquet" if kind_of(path) == ".parquet" else "an Arrow"
    return RecordError(f"{after} is not {kind} file that can be read: {type(error).__name__}: {error}")
