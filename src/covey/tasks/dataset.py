"""Problems from a Hugging Face dataset: a saved folder, a data file, or a hub id."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from covey.protocols import Split
from covey.tasks.errors import unknown
from covey.tasks.rows import Row, by_share, by_source
from covey.tasks.shapes import AUTO, columns_of
from covey.types import CoveyError, Problem

READERS: Mapping[str, str] = {".parquet": "parquet", ".csv": "csv", ".json": "json", ".jsonl": "json"}


class Dataset:
    """A problem a row of ``path``; `Columns.read` says how a row is read, `columns_of` which
    column is what unless it is said.

    ``path`` is a folder (one that ``save_to_disk`` wrote, or one of data files), a ``.parquet``, ``.csv``,
    ``.json`` or ``.jsonl`` file, or the id of a dataset on the Hugging Face hub, of which ``subset`` names
    the configuration. Training problems come from ``split``. Held out is a share of its prompts, a tenth
    unless ``heldout`` says otherwise, or all of ``heldout_split``.

    Raises:
        CoveyError: the package ``datasets`` is missing, the data can't be read, a row lacks its columns,
            no row has an answer, or a prompt is in both splits. The message names the source and the row.
    """

    def __init__(
        self,
        path: str,
        prompt: str = AUTO,
        answer: str | None = AUTO,
        heldout: float | None = None,
        split: str = "train",
        heldout_split: str | None = None,
        subset: str | None = None,
        system: str | None = None,
        final: str = AUTO,
    ) -> None:
        source = f"{path} [{split}]"
        rows = _rows(path, subset, split)
        columns, rows, self.notes = columns_of(rows, prompt, answer, final, system)
        problems = columns.read(rows, source)
        if heldout_split is None:
            self._problems = by_share(problems, heldout, source)
        else:
            other = f"{path} [{heldout_split}]"
            others = columns.read(_rows(path, subset, heldout_split), other)
            self._problems = by_source(problems, others, heldout, source, other)

    def problems(self, split: Split) -> Sequence[Problem]:
        """The problems of one split."""
        return self._problems[split]


def _rows(path: str, subset: str | None, split: str) -> Iterator[Row]:
    try:
        # Rows are read as they are iterated, so that a broken file may fail here or there.
        for number, data in enumerate(_open(path, subset, split), start=1):
            yield Row(f"{path} [{split}], row {number}", data)
    except CoveyError:
        raise
    except Exception as error:  # foreign code's failure, of dozens of types, becomes a message
        raise CoveyError(f"{path} [{split}]: {_reason(path, error)}") from error


def _open(path: str, subset: str | None, split: str) -> Any:
    """The split's rows, iterable."""
    try:
        import datasets
    except ImportError as error:
        message = f"{path}: needs the package datasets; install it with: pip install 'covey[datasets]'"
        raise CoveyError(message) from error
    local = Path(path).expanduser()
    if local.is_file():
        if local.suffix not in READERS:
            raise unknown(path, "reader for files of type", local.suffix, READERS)
        if split != "train":
            raise CoveyError(f"{path}: a file has the one split 'train'; hold out a share of it instead")
        # Streamed: read where it lies, not copied to a cache.
        reader = READERS[local.suffix]
        return datasets.load_dataset(reader, data_files=str(local), split="train", streaming=True)
    if (local / "state.json").is_file() or (local / "dataset_dict.json").is_file():
        saved = datasets.load_from_disk(str(local))
        splits = saved if isinstance(saved, datasets.DatasetDict) else {"train": saved}
        if split not in splits:
            raise unknown(path, "split", split, splits)
        return splits[split]
    if not local.exists() and (
        local.suffix in READERS or path.startswith((".", "/", "~")) or path.count("/") > 1
    ):
        raise CoveyError(f"{path}: no such file or folder")
    return datasets.load_dataset(str(local) if local.is_dir() else path, subset, split=split)


def _reason(path: str, error: Exception) -> str:
    first = str(error).strip().partition("\n")[0]
    if Path(path).expanduser().exists():
        return f"can't be read as a dataset: {type(error).__name__}: {first}"
    return (
        f"no such folder here, and the Hugging Face hub gave nothing ({type(error).__name__}: {first}). "
        f"Check the id and the network, or give the path of a local folder or file."
    )
