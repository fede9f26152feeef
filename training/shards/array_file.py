"""Arrays that grow on disk: rows are appended as they come, the header is set right at the end."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.lib import format as npy


class ArrayFile:
    """A ``.npy`` file under construction; only one batch of rows is ever in memory."""

    def __init__(self, path: Path, dtype: np.dtype, row_shape: tuple[int, ...]) -> None:
        self.path = path
        self.dtype = np.dtype(dtype)
        self.row_shape = row_shape
        self.num_rows = 0
        self._file = path.open("wb")
        self._write_header()

    @property
    def num_bytes(self) -> int:
        """Bytes of the rows so far."""
        return self.num_rows * self.dtype.itemsize * int(np.prod(self.row_shape, dtype=np.int64))

    def append(self, rows: np.ndarray) -> None:
        """Add rows; they are cast to the file's type. Raises OSError when the disk is full."""
        self._file.write(np.ascontiguousarray(rows, self.dtype).data)
        self.num_rows += len(rows)

    def close(self) -> None:
        """Write the header with the final number of rows. Raises OSError when the disk is full."""
        self._file.seek(0)
        self._write_header()
        self._file.close()

    def __enter__(self) -> ArrayFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write_header(self) -> None:
        """numpy leaves room for the first axis to grow to 21 digits, so that the header never changes its length."""
        about = {
            "descr": npy.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (self.num_rows, *self.row_shape),
        }
        npy.write_array_header_1_0(self._file, about)
