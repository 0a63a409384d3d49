"""Pickles that hold data, read without running anything of theirs."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np


class Holder:
    """In place of an object of pandas.

    Attributes:
        arguments: what its constructor was called with.
        state: what it was made of.
    """

    def __new__(cls, *_: object) -> Holder:
        """Make it, whatever pickle calls it with."""
        return super().__new__(cls)

    def __init__(self, *arguments: object) -> None:
        """Keep what a constructor was called with."""
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: object) -> None:
        """Keep the state."""
        self.state = state


def read_plain_pickle(content: bytes) -> Any:
    """Containers and arrays as they are, objects of pandas as ``Holder``.

    Raises:
        ValueError: it asks for anything else.
    """
    try:
        return _Plain(io.BytesIO(content)).load()
    except pickle.UnpicklingError as error:
        raise ValueError(str(error)) from error


def table_columns(table: Holder) -> dict[str, np.ndarray]:
    """Columns of a table that pandas before 1.0 pickled: name -> (N,)."""
    _, blocks, axes, *_ = table.state['_data'].state
    return {
        name: values
        for block, axis in zip(blocks, axes, strict=True)
        for name, values in zip(axis.arguments[1]['data'], block, strict=True)
    }


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Types that are data, and nothing else."""
        if module.split('.')[0] == 'pandas':
            return Holder
        known = {
            ('numpy', 'dtype'): np.dtype,
            ('numpy', 'ndarray'): np.ndarray,
            ('builtins', 'slice'): slice,
            ('_codecs', 'encode'): _encode,
        }
        if module.endswith('.multiarray') and module.startswith('numpy.') and name in ('scalar', '_reconstruct'):
            # Where numpy itself has them for the pickles it writes.
            function, *_ = (np.float64(0) if name == 'scalar' else np.zeros(0)).__reduce__()
            return function
        if (module, name) not in known:
            raise pickle.UnpicklingError(f'{module}.{name} is no plain data')
        return known[module, name]


def _encode(text: str, _: str) -> bytes:
    return text.encode('latin1')
