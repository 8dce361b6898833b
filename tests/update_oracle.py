"""The update rules written out from the papers in float64, and how tests call a backend's."""

import numpy as np

from gconv.backends.update_rules import UPDATE_RULES

STATES = {"sgd": 0, "sgd_momentum": 1, "nesterov_momentum": 1, "rmsprop": 1, "adam": 2, "adamw": 2}
RATE, MOMENTUM, DECAY, BETA1, BETA2, EPSILON, WEIGHT_DECAY = 0.1, 0.8, 0.95, 0.85, 0.99, 1e-6, 0.05
NUMBERS = {
    "learning_rate": RATE, "momentum": MOMENTUM, "decay_rate": DECAY, "beta1": BETA1, "beta2": BETA2,
    "epsilon": EPSILON, "weight_decay": WEIGHT_DECAY,
}  # fmt: skip


def numbers_of(rule):
    return {key: NUMBERS[key] for key in UPDATE_RULES[rule].hyperparameters}


def update_formula(rule, t, ws, states, dws, rate=RATE):
    """Step number t of every parameter: (new ws, new states), from sequences as Backend.update takes them."""
    new_ws, new_states = [], [[] for _ in states]
    for i, (w, dw) in enumerate(zip(ws, dws, strict=True)):
        old = [np.asarray(state[i], np.float64) for state in states]
        w, dw = np.asarray(w, np.float64), np.asarray(dw, np.float64)
        if rule == "sgd":
            after, new = w - rate * dw, []
        elif rule in ("sgd_momentum", "nesterov_momentum"):
            v = MOMENTUM * old[0] - rate * dw
            after, new = w + (v if rule == "sgd_momentum" else -MOMENTUM * old[0] + (1 + MOMENTUM) * v), [v]
        elif rule == "rmsprop":
            cache = DECAY * old[0] + (1 - DECAY) * dw**2
            after, new = w - rate * dw / (np.sqrt(cache) + EPSILON), [cache]
        else:
            m, v = BETA1 * old[0] + (1 - BETA1) * dw, BETA2 * old[1] + (1 - BETA2) * dw**2
            shrink = 1 - rate * WEIGHT_DECAY if rule == "adamw" else 1
            corrected = np.sqrt(v / (1 - BETA2**t)) + EPSILON
            after, new = shrink * w - rate * (m / (1 - BETA1**t)) / corrected, [m, v]
        new_ws.append(after)
        for target, state in zip(new_states, new, strict=True):
            target.append(state)
    return new_ws, new_states


def draw_update(rng, rule, shapes, dtype=np.float64):
    """Return (ws, dws, states) of parameters of these shapes; states are positive, as second moments are."""
    ws, dws, *states = (
        [np.asarray(rng.standard_normal(shape), dtype) for shape in shapes] for _ in range(2 + STATES[rule])
    )
    return ws, dws, [[np.abs(array) for array in state] for state in states]


def run_update(backend, rule, arrays, dws, new, t=1, control=None, rate=RATE):
    """Do step number t from arrays (ws, states) to ``new``, arrays of the same form."""
    entry, numbers = UPDATE_RULES[rule], {**numbers_of(rule), "learning_rate": rate}
    scalars, constants = entry.scalars(numbers, t), entry.constants(numbers)
    backend.update(entry, arrays[0], dws, arrays[1], scalars, constants, new[0], new[1], control)


def copies(ws, states):
    return [w.copy() for w in ws], [[a.copy() for a in state] for state in states]


def fresh(ws, states):
    """Return arrays to write to, full of another number."""
    made = copies(ws, states)
    for array in flattened(*made):
        array.fill(7)
    return made


def flattened(ws, states):
    return [*ws, *(array for state in states for array in state)]
