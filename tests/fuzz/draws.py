"""What a case is drawn from: sizes, parameters, values, memory layouts."""

import math

import numpy as np
from oracles import layout

EDGES = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33)  # of vectors of 4 to 16 lanes
FEW = (1, 1, 2, 2, 3, 4)
FLOATS = (np.float32, np.float64)


class Draw:
    """Draws of one case. ``exact``: small integers, whose sums no rounding touches, so that results must be equal."""

    def __init__(self, seed, number):
        self.rng = np.random.default_rng([seed, number])
        kind = self.rng.integers(10)
        self.exact, self.hard = kind < 4, kind == 9
        self.dtype = self.of(FLOATS)
        self.budget = 2 ** int(self.rng.integers(4, 12))

    def of(self, values):
        return values[int(self.rng.integers(len(values)))]

    def chance(self, one_in):
        return self.rng.integers(one_in) == 0

    def batch(self):
        return 0 if self.chance(20) else self.of((1, 1, 2, 3, 5))

    def channels(self):
        return self.of(EDGES) if self.chance(4) else self.of(FEW)

    def size(self):
        if self.chance(30):
            return int(self.rng.integers(100, 3000))
        return self.of(EDGES)

    def pair(self, values):
        first, second = self.of(values), self.of(values)
        return first if self.chance(2) else (first, second)

    def values(self, shape):
        if self.exact:
            return self.rng.integers(-4, 5, shape).astype(np.float64)
        values = self.rng.standard_normal(shape)
        if self.hard and values.size:
            for value in (np.nan, np.inf, -np.inf, -0.0, 1e-15):
                if self.chance(3):
                    values.flat[int(self.rng.integers(values.size))] = value
        return values

    def array(self, shape, dtype=None):
        """An array in a random layout; now and then of the other floating type, or of bytes."""
        if dtype is None:
            dtype = self.of(FLOATS) if self.chance(12) else self.dtype
        return layout(self.rng, self.values(shape).astype(np.float32).astype(dtype))

    def bytes(self, shape):
        return layout(self.rng, self.rng.integers(0, 9, shape).astype(np.uint8))

    def image(self, shape):
        return self.bytes(shape) if self.chance(15) else self.array(shape)

    def conv(self):
        """x, w, b and conv_param of a convolution within the budget."""
        while True:
            if self.chance(10):  # by Winograd's transform
                shape, field, stride, filters = (
                    (1, self.of((16, 17)), self.of((2, 3, 6, 9)), self.of(EDGES)),
                    (3, 3),
                    1,
                    16,
                )
            else:
                shape = self.batch(), self.channels(), self.size(), self.size()
                field, filters = (self.of((1, 2, 3, 3, 5, 7)), self.of((1, 2, 3, 3, 5, 7))), self.channels()
                stride = self.pair((1, 1, 1, 2, 3, 5))
                if self.chance(25):
                    shape, filters = (shape[0], 0, *shape[2:]), filters
                elif self.chance(25):
                    filters = 0
            pad = self.pair((0, 0, 1, 2, 3))
            sizes = [out_size(*of) for of in zip(shape[2:], field, both(stride), both(pad), strict=True)]
            if min(sizes) < 1 or shape[0] * filters * math.prod(sizes) > self.budget or math.prod(shape) > 20000:
                continue
            w = self.array((filters, shape[1], *field))
            return self.image(shape), w, self.array((filters,)), {"stride": stride, "pad": pad}, sizes

    def pool(self, sizes):
        """pool_param of a pooling of images of those sizes."""
        heights = [n for n in (1, 2, 2, 3, 4, 17) if n <= sizes[0]]
        widths = [n for n in (1, 2, 2, 3, 4, 17) if n <= sizes[1]]
        window = self.of(heights), self.of(widths)
        stride = window[0] if self.chance(3) else self.pair((1, 2, 2, 3))
        return {"pool_height": window[0], "pool_width": window[1], "stride": stride}


def both(value):
    return value if isinstance(value, tuple) else (value, value)


def out_size(size, field, stride, pad):
    return 1 + (size + 2 * pad - field) // stride if size + 2 * pad >= field else 0
