"""Weights in PyTorch's names and layouts, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gconv._typing import Array
from gconv.backends import array_kind, get_backend
from gconv.backends.exchange import from_dlpack
from gconv.classifiers.saving import SavedParameters

__all__ = ["WEIGHT_AND_BIAS", "StateDict"]

WEIGHT_AND_BIAS = (("W", "weight"), ("b", "bias"))
# What PyTorch's batch normalisation counts, and nothing is computed from.
IGNORED = "num_batches_tracked"


class StateDict(SavedParameters):
    """state_dict and load_state_dict for models whose ``layer_names`` says what PyTorch calls a parameter."""

    dtype: np.dtype[Any]

    def layer_names(self) -> dict[str, str]:
        """Return PyTorch's name of each parameter and buffer: ``{"W1": "conv1.weight", ...}``."""
        raise NotImplementedError

    def buffer_values(self) -> dict[str, Array]:
        """Return the buffers, also those that no training has made yet."""
        return {}

    def state_dict(self) -> dict[str, Array]:
        """Return copies of the weights as NumPy arrays, in PyTorch's names and layouts.

        A matrix is transposed, since a Linear of PyTorch multiplies with its weight's transpose; filters are the same.
        The classes' docstrings name the layers of a PyTorch twin, which loads
        ``{name: torch.from_numpy(w) for name, w in model.state_dict().items()}``.

        Returns
        -------
        dict of str to numpy.ndarray
        """
        values = {**self.params, **self.buffer_values()}
        arrays = {name: get_backend(values[ours]).to_numpy(values[ours]) for ours, name in self.layer_names().items()}
        return {name: (a.T if a.ndim == 2 else a).copy(order="C") for name, a in arrays.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over weights in PyTorch's names and layouts.

        Parameters
        ----------
        state : mapping of str to array or tensor
            What ``state_dict`` of this class or of a PyTorch twin returns; cast to the model's dtype and copied to its
            backend.

        Raises
        ------
        ValueError
            If a name is missing or unknown, or a shape is another; the model has not been changed then.
        TypeError
            For values that are no arrays.
        """
        func, names = f"{type(self).__name__}.load_state_dict", self.layer_names()
        given = {name: value for name, value in state.items() if not name.endswith(IGNORED)}
        missing, unknown = sorted(set(names.values()) - set(given)), sorted(set(given) - set(names.values()))
        if missing or unknown:
            raise ValueError(f"{func}: state must have the names of the layers; missing {missing}, unknown {unknown}")
        values, backend = {**self.params, **self.buffer_values()}, get_backend(*self.params.values())
        found = {}
        for ours, name in names.items():
            array = given[name] if array_kind(given[name]) else from_dlpack(given[name])
            array = get_backend(array).to_numpy(array)
            expected = values[ours].shape[::-1] if values[ours].ndim == 2 else values[ours].shape
            if array.shape != expected:
                raise ValueError(f"{func}: state[{name!r}] must have shape {expected}; got {array.shape}")
            array = np.array(array.T if array.ndim == 2 else array, dtype=self.dtype, order="C")
            found[ours] = backend.asarray(array)
        self.params.update({name: found[name] for name in self.params})
        buffers = {name: array for name, array in found.items() if name not in self.params}
        if buffers:
            self.buffers = buffers
