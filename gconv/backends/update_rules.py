"""The update rules: what each is called, what it remembers, which numbers it takes, and what a step of it does.

A rule is an entry of ``UPDATE_RULES`` and, where it is to be fast, a kernel for the CPU (kernels/cpu/update_rules.hpp)
and one for the GPU (kernels/cuda/optim.cu), both under the name that the entry gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from gconv._typing import Array

__all__ = ["UPDATE_RULES", "Hyperparameter", "UpdateRule"]

Numbers = Mapping[str, float]
BELOW_ONE = 1 - 2**-53  # the largest float64 below 1


class Hyperparameter(NamedTuple):
    """What a number of a rule is where nobody says, and the least and the largest that it may be."""

    default: float
    low: float = 0.0
    high: float = float("inf")


@dataclass(frozen=True)
class UpdateRule:
    """One update rule.

    Attributes
    ----------
    name : str
        As the Solver takes it.
    hyperparameters : mapping of str to Hyperparameter
        ``learning_rate`` first.
    states : tuple of str
        The arrays like a parameter that the rule keeps for it, zeros at first, by their keys in a config.
    counts_steps : bool
        Whether a config counts the steps done, in ``t``.
    scalars : callable
        Of (numbers, the number of this step from 1): what changes from step to step, four numbers at most.
    constants : callable
        Of numbers: what does not, eight at most.
    step : callable
        Of (xp, w, dw, states, scalars, constants, out, new_states): a step in array operations, the definition, and
        what runs where there is no kernel. Arrays have an axis at least. Reads w, dw and states, writes out and
        new_states, each of which may be the array that it follows.
    kernel : str, optional
        The name of the kernels on every device that compute the same; None where there are none.
    """

    name: str
    hyperparameters: Mapping[str, Hyperparameter]
    states: tuple[str, ...]
    counts_steps: bool
    scalars: Callable[[Numbers, int], tuple[float, ...]]
    constants: Callable[[Numbers], tuple[float, ...]]
    step: Callable[..., None]
    kernel: str | None = None


def _rate(numbers: Numbers, t: int) -> tuple[float, ...]:
    return (numbers["learning_rate"],)


def _nothing(numbers: Numbers) -> tuple[float, ...]:
    return ()


def _sgd_step(
    xp: Any,
    w: Array,
    dw: Array,
    states: Sequence[Array],
    scalars: Sequence[float],
    constants: Sequence[float],
    out: Array,
    new_states: Sequence[Array],
) -> None:
    """Write w - rate * dw."""
    xp.subtract(w, scalars[0] * dw, out=out)


def _momentum_step(
    xp: Any,
    w: Array,
    dw: Array,
    states: Sequence[Array],
    scalars: Sequence[float],
    constants: Sequence[float],
    out: Array,
    new_states: Sequence[Array],
) -> None:
    """Write v = momentum * v - rate * dw, and w + v, or w + momentum * v - rate * dw with Nesterov's look-ahead."""
    momentum, nesterov = constants
    (velocity,) = new_states
    step = scalars[0] * dw
    xp.multiply(states[0], momentum, out=velocity)
    velocity -= step
    if nesterov:
        xp.subtract(momentum * velocity, step, out=step)
        xp.add(w, step, out=out)
    else:
        xp.add(w, velocity, out=out)


def _rmsprop_step(
    xp: Any,
    w: Array,
    dw: Array,
    states: Sequence[Array],
    scalars: Sequence[float],
    constants: Sequence[float],
    out: Array,
    new_states: Sequence[Array],
) -> None:
    """Write cache = decay * cache + (1 - decay) dw^2, and w - rate * dw / (sqrt(cache) + epsilon)."""
    decay, rest, epsilon = constants
    (cache,) = new_states
    square = dw * dw
    square *= rest
    xp.multiply(states[0], decay, out=cache)
    cache += square
    root = xp.sqrt(cache, out=square)
    root += epsilon
    step = scalars[0] * dw
    step /= root
    xp.subtract(w, step, out=out)


def _adam_scalars(numbers: Numbers, t: int) -> tuple[float, ...]:
    """Return rate / (1 - beta1^t), 1 / (1 - beta2^t), and what of w decays."""
    rate = numbers["learning_rate"]
    return rate / (1 - numbers["beta1"] ** t), 1 / (1 - numbers["beta2"] ** t), rate * numbers.get("weight_decay", 0.0)


def _adam_constants(numbers: Numbers) -> tuple[float, ...]:
    beta1, beta2 = numbers["beta1"], numbers["beta2"]
    return beta1, 1 - beta1, beta2, 1 - beta2, numbers["epsilon"]


def _adam_step(
    xp: Any,
    w: Array,
    dw: Array,
    states: Sequence[Array],
    scalars: Sequence[float],
    constants: Sequence[float],
    out: Array,
    new_states: Sequence[Array],
) -> None:
    """Write both moments, and w - (rate * m / (sqrt(v * correction) + epsilon) + shrink * w)."""
    rate, correction, shrink = scalars[:3]
    beta1, rest1, beta2, rest2, epsilon = constants
    m, v = new_states
    step = rest1 * dw
    xp.multiply(states[0], beta1, out=m)
    m += step
    root = dw * dw
    root *= rest2
    xp.multiply(states[1], beta2, out=v)
    v += root
    xp.multiply(v, correction, out=root)
    xp.sqrt(root, out=root)
    root += epsilon
    xp.multiply(m, rate, out=step)
    step /= root
    if shrink:
        step += shrink * w
    xp.subtract(w, step, out=out)


_RATE = {"learning_rate": Hyperparameter(1e-2)}
_MOMENTUM = {**_RATE, "momentum": Hyperparameter(0.9, high=1)}
_RMSPROP = {**_RATE, "decay_rate": Hyperparameter(0.99, high=1), "epsilon": Hyperparameter(1e-8)}
_ADAM = {
    "learning_rate": Hyperparameter(1e-3),
    "beta1": Hyperparameter(0.9, high=BELOW_ONE),
    "beta2": Hyperparameter(0.999, high=BELOW_ONE),
    "epsilon": Hyperparameter(1e-8),
}
_ADAM_STEP: Any = (("m", "v"), True, _adam_scalars, _adam_constants, _adam_step, "adam")

_RULES = (
    UpdateRule("sgd", _RATE, (), False, _rate, _nothing, _sgd_step, "sgd"),
    UpdateRule(
        "sgd_momentum", _MOMENTUM, ("velocity",), False, _rate, lambda n: (n["momentum"], 0), _momentum_step, "momentum"
    ),
    UpdateRule(
        "nesterov_momentum",
        *(_MOMENTUM, ("velocity",), False, _rate, lambda n: (n["momentum"], 1), _momentum_step, "momentum"),
    ),
    UpdateRule(
        "rmsprop",
        *(_RMSPROP, ("cache",), False, _rate),
        lambda n: (n["decay_rate"], 1 - n["decay_rate"], n["epsilon"]),
        *(_rmsprop_step, "rmsprop"),
    ),
    UpdateRule("adam", _ADAM, *_ADAM_STEP),
    UpdateRule("adamw", {**_ADAM, "weight_decay": Hyperparameter(1e-2)}, *_ADAM_STEP),
)

UPDATE_RULES: dict[str, UpdateRule] = {rule.name: rule for rule in _RULES}
