"""Small dense linear algebra: as many rows as there are queues."""

from __future__ import annotations

Matrix = list[list[float]]


def solved(matrix: Matrix, right: list[float]) -> list[float]:
    """x of matrix · x = right, by Gauss with pivots; zeros where there is no one solution."""
    count = len(right)
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for i in range(count):
        best = max(range(i, count), key=lambda r: abs(rows[r][i]))
        rows[i], rows[best] = rows[best], rows[i]
        if abs(rows[i][i]) < 1e-12:
            return [0.0] * count
        for r in range(i + 1, count):
            factor = rows[r][i] / rows[i][i]
            rows[r] = [value - factor * above for value, above in zip(rows[r], rows[i], strict=True)]
    found = [0.0] * count
    for i in reversed(range(count)):
        rest = sum(rows[i][j] * found[j] for j in range(i + 1, count))
        found[i] = (rows[i][count] - rest) / rows[i][i]
    return found


def inverse(matrix: Matrix) -> Matrix:
    """Of a symmetric matrix, so columns are rows."""
    count = len(matrix)
    return [solved(matrix, [1.0 if i == j else 0.0 for j in range(count)]) for i in range(count)]


def product(left: Matrix, right: Matrix) -> Matrix:
    columns = list(zip(*right, strict=True))
    return [[sum(a * b for a, b in zip(row, column, strict=True)) for column in columns] for row in left]


def times(matrix: Matrix, vector: list[float]) -> list[float]:
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]
