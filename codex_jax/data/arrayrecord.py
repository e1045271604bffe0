"""ArrayRecord, the format of Grain and of TensorFlow Datasets: records that are found by their number.

A record is a JSON object with the fields of a row; where data.text_field is empty, every record is the text itself. A
unit is a range of records: the file's records are dealt out evenly over as many units as its size allows, at borders of
groups, since a group is what the writer compressed together and can only be read as a whole.
"""

import functools
import os
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from codex_jax import config
from codex_jax.data import jsonl, opening, plain
from codex_jax.data.documents import BadRow, Document
from codex_jax.errors import AssetError, ConfigError


# So many units make a window that it draws on many places of the corpus, however the files were sorted.
_UNITS_IN_WINDOW = 32
_LEAST_BYTES = 1024
# Its footer, read when a reader is made, is eight bytes for each group. Threads of its own cost more than they read.
_OPEN_READERS = 8
_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"


class ArrayRecordSource:
    """Files of ArrayRecord."""

    suffixes: tuple[str, ...] = (".array_record", ".arrayrecord")
    is_text = False

    def unit_bytes(self, data: config.Data) -> int:
        """Return how much of a file's size falls to a unit, on average."""
        return max(data.window_bytes // _UNITS_IN_WINDOW, _LEAST_BYTES)

    def read(self, file: BinaryIO, size: int, unit: int, data: config.Data) -> Iterator[Document | BadRow]:
        """Yield the documents of the records of the unit."""
        if opening.is_remote(file.name):
            raise ConfigError(f"{file.name} cannot be read where it is: copy ArrayRecord files here")
        count = -(-size // self.unit_bytes(data))
        try:
            reader = _reader(file.name, size, os.fstat(file.fileno()).st_mtime_ns)
            first, last = (_border(reader, part, count) for part in (unit, unit + 1))
            records = reader.read(first, last) if first < last else []
        except RuntimeError as error:
            raise AssetError(
                f"{file.name} is not a whole ArrayRecord file: {error}; fetch or write it again"
            ) from error
        parse = jsonl.parse if data.text_field else plain.parse
        for number, record in enumerate(records, first + 1):
            yield parse(record, None, data)._replace(line=number)


def _border(reader: Any, part: int, count: int) -> int:
    """Return the first record of part `part` of `count`: the first one of a group."""
    number, group = reader.num_records(), _group_size(reader.writer_options_string())
    return min(-(-number * part // count // group) * group, number)


def _group_size(options: str | None) -> int:
    """Return how many records were compressed together; the options are `group_size:1,transpose:false,...`."""
    found = re.search(r"\bgroup_size:(\d+)", options or "")
    return int(found[1]) if found else 1


@functools.lru_cache(_OPEN_READERS)
def _reader(path: str, size: int, mtime_ns: int) -> Any:
    """Return what reads ranges of a file; any number of threads may, as long as none asks for `the next` record."""
    try:
        from array_record.python.array_record_module import ArrayRecordReader
    except ImportError as error:
        raise ConfigError(
            f"ArrayRecord files need array_record, which comes with Grain on Linux and macOS: {error}"
        ) from error
    reader = ArrayRecordReader(path, _OPTIONS)
    if not reader.ok():
        reader.close()  # raises what is wrong; until then the reader of a damaged file says that it has no records
    return reader
