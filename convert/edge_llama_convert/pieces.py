"""Read rows of a tensor, also of one whose pieces lie in several files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from .fileio import SharedFile
    from .refs import TensorRef


def read_rows(
    files: Mapping[Path, SharedFile], ref: TensorRef, first: int, rows: npt.NDArray[np.uint8]
) -> None:
    """Fill ``rows``, ``[n, bytes per row]``, with the tensor's rows from number ``first`` on.

    Raises:
        SourceError: a file ends before its rows do.
    """
    if not ref.parts:
        _read(files, ref, first, rows)
    elif ref.axis == 0:
        done, begin = 0, 0  # rows read; number of the piece's first row
        for part in ref.parts:
            end = begin + part.shape[0]
            at = first + done
            count = min(end - at, len(rows) - done)
            if at >= begin and count > 0:
                _read(files, part, at - begin, rows[done : done + count])
                done += count
            begin = end
    else:
        column = 0
        for part in ref.parts:
            width = part.nbytes // part.shape[0]
            piece = np.empty((len(rows), width), dtype=np.uint8)
            _read(files, part, first, piece)
            rows[:, column : column + width] = piece
            column += width


def _read(
    files: Mapping[Path, SharedFile], ref: TensorRef, first: int, rows: npt.NDArray[np.uint8]
) -> None:
    files[ref.path].read_into(rows.reshape(-1).data, ref.offset + first * rows.shape[1])
