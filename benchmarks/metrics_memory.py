"""Memory and time of evaluating many large maps; prints one line.

    python -m benchmarks.metrics_memory [--images 500] [--size 1024]

The maps are smoothed noise, every value distinct as far as float32 allows: the worst case for exact counting.
Every second image has round defects of raised scores. The time to make the maps is not counted.
"""

import argparse
import platform
import resource
import time

import cv2
import numpy as np

from blemish.metrics.evaluator import Evaluator
from blemish.types import Map


def main() -> None:
    """Evaluate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--size", type=int, default=1024)
    arguments = parser.parse_args()
    images, size = arguments.images, arguments.size
    random = np.random.default_rng(0)
    before = peak_mib()
    evaluator, spent = Evaluator(), 0.0
    for index in range(images):
        noise = random.standard_normal((size, size), dtype=np.float32)
        mask = np.zeros((size, size), dtype=np.uint8)
        if index % 2:
            for x, y in random.integers(0, size, (5, 2)).tolist():
                cv2.circle(mask, (x, y), size // 40, 1, -1)
        defective = mask.astype(np.bool_)
        blurred = 3 + 4 * cv2.GaussianBlur(noise, (0, 0), 4) + 0.5 * mask
        anomaly_map: Map = blurred.astype(np.float32)
        start = time.perf_counter()
        evaluator.update(float(anomaly_map.max()), index % 2, f"type{index % 8}", anomaly_map, defective)
        spent += time.perf_counter() - start
    start = time.perf_counter()
    result = evaluator.compute(threshold=4.0)
    compute = time.perf_counter() - start
    pixels = images * size * size
    print(
        f"{images} maps of {size}x{size}: peak {peak_mib():.0f} MiB ({before:.0f} before), "
        f"update {spent:.1f} s ({1e9 * spent / pixels:.1f} ns/pixel), compute {compute:.1f} s, "
        f"pixel_auroc {result.pixel_auroc:.6f}, aupro {result.aupro:.6f}, "
        f"largest error bound {max(result.errors.values(), default=0):.1e}; {platform.machine()}, "
        f"Python {platform.python_version()}, numpy {np.__version__}, OpenCV {cv2.__version__}"
    )


def peak_mib() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
