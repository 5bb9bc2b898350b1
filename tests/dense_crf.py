"""Mean-field inference in a dense CRF by plain loops in float64, and its gradients by the chain rule written out.

Only where points lie in the lattice is worked out in float32, as Caffe's fork does: a point on the border of two
simplexes falls into one of them by that.
"""

import math
from collections import defaultdict

import numpy as np

f32 = np.float32


def simplex(point):
    """Of a point of d numbers: itself in the lattice's plane, d + 1 numbers, the d + 1 corners around it from
    remainder 0 on, as tuples of d + 1, and its weights of them."""
    d = len(point)
    deviation = float(f32(math.sqrt(2 / 3) * (d + 1)))
    x = [f32(v) * f32(deviation / math.sqrt((i + 1) * (i + 2))) for i, v in enumerate(point)]
    plane = []
    for i in range(d + 1):  # the paper's E, row by row: 1 to the right of the diagonal, -i below it, else 0
        right = f32(0)
        for v in reversed(x[i:]):
            right = right + v
        plane.append(right - f32(i) * x[i - 1] if i else right)
    share = f32(1 / (d + 1))
    turns = [int(np.round(v * share)) for v in plane]
    order = sorted(range(d + 1), key=lambda i: -(plane[i] - f32(turns[i] * (d + 1))))  # furthest above first
    while sum(turns) > 0:  # too far up: what lies furthest below goes down by one, and so comes first
        order.insert(0, order.pop())
        turns[order[0]] -= 1
    while sum(turns) < 0:
        order.append(order.pop(0))
        turns[order[-1]] += 1
    above = [(plane[i] - f32(turns[i] * (d + 1))) * share for i in order]
    weights = [1 + above[d] - above[0]] + [above[d - k] - above[d + 1 - k] for k in range(1, d + 1)]
    corners = [tuple((d + 1) * turns[i] + k - (d + 1) * (order.index(i) > d - k) for i in range(d + 1))
               for k in range(d + 1)]
    return plane, corners, [float(w) for w in weights]


class Lattice:
    def __init__(self, points):
        self.d = len(points[0])
        self.points = [list(zip(*simplex(point)[1:], strict=True)) for point in points]
        self.corners = {corner for point in self.points for corner, _ in point}
        if len(points) % 4:  # the fork fills its last block of four up by points at 0 that hold nothing
            self.corners |= set(simplex([0] * self.d)[1])

    def filter(self, values, back=False):
        """values: one a point."""
        held = defaultdict(float)
        for point, value in zip(self.points, values, strict=True):
            for corner, weight in point:
                held[corner] += weight * value
        axes = range(self.d + 1)
        for axis in reversed(axes) if back else axes:
            blurred = {}
            for corner in self.corners:
                one = tuple(c + self.d if i == axis else c - 1 for i, c in enumerate(corner))
                other = tuple(c - self.d if i == axis else c + 1 for i, c in enumerate(corner))
                blurred[corner] = held[corner] + sum(held[c] for c in (one, other) if c in self.corners) / 2
            held = defaultdict(float, blurred)
        alpha = 1 / (1 + 2.0**-self.d)
        return np.array([alpha * sum(weight * held[corner] for corner, weight in point) for point in self.points])

    def norm(self):
        return 1 / (self.filter([1] * len(self.points)) + 1e-20)


def lattices(image, alpha, beta, gamma):
    """Of an image 3 x H x W: the spatial one and the bilateral one."""
    _, high, wide = image.shape
    places = [(j, i) for i in range(high) for j in range(wide)]
    return (Lattice([[f32(v) / f32(gamma) for v in place] for place in places]),
            Lattice([[f32(v) / f32(alpha) for v in (j, i)] + [f32(v) / f32(beta) for v in image[:, i, j]]
                     for j, i in places]))


def chances(q):
    e = np.exp(q - q.max(0))
    return e / e.sum(0)


def meanfield(u, q, image, thetas, matrices, steps, upon):
    """Of one item: the top, its gradients, with `upon` that of the top, to u, q and each matrix."""
    classes, (spatial, bilateral, compatible) = len(u), (m.astype(float) for m in matrices)
    pair = lattices(image, *thetas)
    u, q, g = (x.reshape(classes, -1).astype(float) for x in (u, q, upon))
    norms, passed = [each.norm() for each in pair], []
    for _ in range(steps):
        p = chances(q)
        s, b = ([each.filter(row) * norm for row in p] for each, norm in zip(pair, norms, strict=True))
        message = spatial @ s + bilateral @ b
        passed.append((p, s, b, message))
        q = u - compatible @ message
    to_u, to_matrices = np.zeros_like(u), [np.zeros((classes, classes)) for _ in range(3)]
    for p, s, b, message in reversed(passed):
        to_u += g
        pairwise = -g
        to_matrices[2] += pairwise @ message.T
        back = compatible.T @ pairwise
        to_matrices[0] += back @ np.transpose(s)
        to_matrices[1] += back @ np.transpose(b)
        to_p = sum(np.array([each.filter(row * norm, back=True) for row in matrix.T @ back])
                   for each, norm, matrix in zip(pair, norms, (spatial, bilateral), strict=True))
        g = p * (to_p - (to_p * p).sum(0))
    shape = (classes, *image.shape[1:])
    return q.reshape(shape), to_u.reshape(shape), g.reshape(shape), to_matrices
