"""What regions and rules cost: a map of 1600 × 1200 pixels with 200 regions, on one core.

    python -m benchmarks.regions

Prints the median milliseconds of finding and measuring the regions, and of the whole verdict by rules in two zones.
"""

import statistics
import time
from collections.abc import Callable

import cv2
import numpy as np
from benchmarks.tables import machine

from blemish.calibration import Calibration
from blemish.inspection.verdict import Judge
from blemish.regions import find_regions
from blemish.rules.record import Allowance, Rule, Rules, Zone

SIZE = (1200, 1600)
REGIONS = 200
RUNS = 30
RULES = Rules(
    zones=(
        Zone(name="seal", polygon=((0.0, 0.0), (799.0, 0.0), (799.0, 1199.0), (0.0, 1199.0))),
        Zone(name="print", polygon=((900.0, 100.0), (1000.0, 100.0), (1000.0, 200.0)), ignore=True),
    ),
    rules=(
        Rule(name="length", measure="length_px", minor=20.0, major=80.0),
        Rule(name="seal", zones=("seal",), measure="area_px", critical=2000.0),
    ),
    allowances=(Allowance(name="dust", where={"area_px_max": 30.0, "peak_max": 1.5}),),
)


def main() -> None:
    """Draw the map, measure, print."""
    cv2.setNumThreads(1)
    random = np.random.default_rng(0)
    drawn = np.zeros(SIZE, np.float32)
    for row in range(10):  # apart from each other
        for column in range(20):
            place = (40 + 80 * column, 60 + 120 * row)
            axes = int(random.integers(4, 30)), int(random.integers(3, 12))
            cv2.ellipse(drawn, place, axes, float(random.uniform(0, 180)), 0, 360, (1.0,), -1)
    anomaly_map = np.asarray(cv2.GaussianBlur(drawn, (0, 0), 2.0), np.float32)
    image = random.integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    found = find_regions(anomaly_map, image, 0.4, 0.2)[1]
    if len(found) != REGIONS:
        raise SystemExit(f"{len(found)} regions instead of {REGIONS}.")
    calibration = Calibration.from_normal([0.4], [0.4], [0.0], 0.5)
    judge = Judge(calibration, RULES)
    print(machine())
    print(f"regions: {milliseconds(lambda: find_regions(anomaly_map, image, 0.4, 0.2)):.1f} ms")
    print(f"verdict by rules: {milliseconds(lambda: judge.judge(1.0, anomaly_map, image, None)):.1f} ms")


def milliseconds(work: Callable[[], object]) -> float:
    """Median time of `RUNS` calls."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


if __name__ == "__main__":
    main()
