"""Thin a curve of any length to what a chart can show, in memory that does not grow with its length."""

import dataclasses


Point = tuple[int, float]  # step, value


@dataclasses.dataclass
class _Bucket:
    """The points of a stretch of steps: the outermost two, and what their mean needs."""

    low: Point
    high: Point
    total: float
    steps: int
    num_points: int

    def absorb(self, other: "_Bucket") -> None:
        self.low = min(self.low, other.low, key=lambda point: (point[1], point[0]))
        self.high = max(self.high, other.high, key=lambda point: (point[1], -point[0]))
        self.total += other.total
        self.steps += other.steps
        self.num_points += other.num_points


class Curve:
    """Keeps the smallest and the largest value of every stretch of steps; stretches double when there are too many.

    So a spike of one step is still in the picture of a million. Values that are not finite are counted, not drawn.
    """

    def __init__(self, num_buckets: int = 300) -> None:
        self.last: Point | None = None
        self.num_missing = 0
        self._num_buckets = num_buckets
        self._width = 1
        self._buckets: dict[int, _Bucket] = {}

    def add(self, step: int, value: float | None) -> None:
        """Take one point; None is a value that was not finite."""
        if value is None:
            self.num_missing += 1
            return
        self.last = (step, value)
        self._absorb(self._buckets, step // self._width, _Bucket(self.last, self.last, value, step, 1))
        while len(self._buckets) > self._num_buckets:
            self._widen()

    def points(self) -> list[Point]:
        """Return at most two points a stretch, by step."""
        return sorted({point for bucket in self._buckets.values() for point in (bucket.low, bucket.high)})

    def smoothed(self, share: float = 0.03) -> list[Point]:
        """Return the mean over a window of `share` of the curve to each side, one point a stretch."""
        buckets = [self._buckets[index] for index in sorted(self._buckets)]
        reach = max(1, round(share * len(buckets)))
        smooth = []
        for middle, bucket in enumerate(buckets):
            # Narrower towards the start, else its steep fall would be drawn lower than it was.
            side = min(reach, middle)
            window = buckets[middle - side : middle + side + 1]
            count = sum(part.num_points for part in window)
            smooth.append((round(bucket.steps / bucket.num_points), sum(part.total for part in window) / count))
        return smooth

    def _widen(self) -> None:
        self._width *= 2
        wider: dict[int, _Bucket] = {}
        for index, bucket in self._buckets.items():
            self._absorb(wider, index // 2, bucket)
        self._buckets = wider

    def _absorb(self, buckets: dict[int, _Bucket], index: int, bucket: _Bucket) -> None:
        if index in buckets:
            buckets[index].absorb(bucket)
        else:
            buckets[index] = bucket
