"""What PatchCore and the training loop cost: each row a figure and what it is compared with, measured in one run.

    BLEMISH_DATA=... BLEMISH_WEIGHTS=... python -m benchmarks.speed [ROW...]

Rows are added to benchmarks/speed.csv, from which the tables of docs/speed.md (all rows) and of the READMEs (the main
ones) are written; without names, the rows that are missing there are measured. Two threads, resnet18 at 256 × 256 on
MVTec bottle unless a row says otherwise. The comparison with another library is `benchmarks/peers/`.
"""

import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import torch
from benchmarks import reconstruction_rows
from benchmarks.tables import Row, fill_pages, machine, measured_on, read_rows, versions, write_rows
from torch import Tensor

import blemish
from blemish.blocks.memory.coreset import START_POINTS, GreedyCoreset, greedy_coreset, projection
from blemish.blocks.memory.neighbours import NearestNeighbours
from blemish.blocks.memory.streaming_coreset import StreamingCoreset
from blemish.data.loading import Inputs, stacked
from blemish.data.preprocess import Preprocess
from blemish.training import learn
from blemish.types import Sample

TABLE = Path(__file__).with_name("speed.csv")
COLUMNS = ("row", "ours", "compared", "ratio", "target", "note", "machine", "versions")
THREADS = 2
BACKBONE = "resnet18"
LARGE = ("wide_resnet50_2:random", 200, 1024)
"""Backbone, images and pixels of the row of large images."""


def main() -> None:
    """Measure the rows asked for, or those missing; a row of its own process is named by --only."""
    torch.set_num_threads(THREADS)
    if sys.argv[1:2] == ["--only"]:
        print("\n".join(ROWS[sys.argv[2]]()))
        return
    rows = read_rows(TABLE)
    for name in sys.argv[1:] or [name for name in ROWS if name not in {row["row"] for row in rows}]:
        output = subprocess.run(
            [sys.executable, "-m", "benchmarks.speed", "--only", name],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
        values = [name, *output.strip().splitlines()[-5:]]
        values += [f"{machine()}; {THREADS} threads", versions("blemish", "torch", "numba")]
        row = dict(zip(COLUMNS, values, strict=True))
        rows = [other for other in rows if other["row"] != name] + [row]
        rows.sort(key=lambda row: list(ROWS).index(row["row"]))
        write_rows(TABLE, COLUMNS, rows)
        print(" | ".join(row.values()), flush=True)
    fill_pages("speed", lambda which: table(rows, which))


def coreset() -> list[str]:
    """Seconds to choose 10 % of bottle's patches, by greedy in sweeps and by the streamed net; and what both cover."""
    grids = all_grids("mvtec_ad/bottle")
    patches = grids.flatten(0, 2)
    budget = round(0.1 * len(patches))
    slow, greedy = timed_choice(greedy_in_sweeps, patches, budget)
    exact, same = timed_choice(greedy_coreset, patches, budget)
    fast, centres = choose(list(grids), size=budget)
    radii = covering_radius(patches, centres), covering_radius(patches, patches[greedy])
    shared = len(set(greedy.tolist()) & set(same.tolist()))
    return row(
        f"{fast:.1f} s", f"{slow:.0f} s by exact greedy", slow / fast, "≥ 40, radius ≤ 1.05 × greedy's",
        f"{budget} of {len(patches)} patches; kept {len(centres)}; radius {radii[0] / radii[1]:.3f} × greedy's; "
        f"our exact greedy takes {exact:.1f} s and chooses {shared} of the same {budget} patches",
    )  # fmt: skip


def scaling() -> list[str]:
    """How the cost of selection grows from 50 to 800 images at a fixed bank size: epsilon-net and exact greedy."""
    grids = all_grids("magnetic_tile")
    grids = torch.cat([grids, grids])[:800]
    grids[len(grids) // 2 :] += 1e-3 * torch.randn(grids[len(grids) // 2 :].shape)
    counts = [len(grids) // part for part in (16, 8, 4, 2, 1)]
    seconds = {count: choose(list(grids[:count]), size=5000)[0] for count in counts}
    least, most = counts[0], counts[-1]
    exact = {n: timed_choice(greedy_coreset, grids[:n].flatten(0, 2), 5000)[0] for n in (least, most)}
    exponent, exact_exponent = (
        math.log(s[most] / s[least]) / math.log(most / least) for s in (seconds, exact)
    )
    return row(
        f"{seconds[most]:.1f} s for {most} images", f"{seconds[least]:.1f} s for {least}", exponent, "exponent ≤ 1.1",
        "epsilon-net, bank_size 5000, magnetic_tile; " + ", ".join(f"{n} images {s:.1f} s" for n, s in seconds.items())
        + f"; exact greedy {exact[least]:.1f} s and {exact[most]:.1f} s, exponent {exact_exponent:.2f}",
    )  # fmt: skip


def neighbours_384() -> list[str]:
    """The nearest-neighbour step alone, resnet18."""
    return nearest_row(BACKBONE, 21_400)


def neighbours_1536() -> list[str]:
    """The nearest-neighbour step alone, resnet50_caffe."""
    return nearest_row("resnet50_caffe", 16_384)


def update() -> list[str]:
    """Learning 5 more images against fitting anew."""
    samples = blemish.open_dataset(product("mvtec_ad/bottle")).train
    started = time.perf_counter()
    model = blemish.fit(
        blemish.PatchCore(backbone=BACKBONE),
        samples[5:],
        preprocess=Preprocess(),
        group_by="none",
        hold_out_share=0.1,
        device="cpu",
    )
    fitted = time.perf_counter() - started
    started = time.perf_counter()
    blemish.update(model, samples[:5])
    spent = time.perf_counter() - started
    return row(f"{spent:.2f} s", f"{fitted:.1f} s to fit", fitted / spent, "≥ 20", "1 %, 5 new images")


def high_resolution() -> list[str]:
    """200 images of 1024 px through wide_resnet50_2: seconds of features and of choosing, and the largest memory."""
    backbone, images, size = LARGE
    samples = blemish.open_dataset(product("mvtec_ad/bottle")).train[:images]
    spent = {"choosing": 0.0}

    def timed(function: Callable[..., object]) -> Callable[..., object]:
        def run(*arguments: object) -> object:
            started = time.perf_counter()
            result = function(*arguments)
            spent["choosing"] += time.perf_counter() - started
            return result

        return run

    method = blemish.PatchCore(backbone=backbone)
    inputs = Inputs(samples, Preprocess(size=(size, size)))
    started = time.perf_counter()
    with ExitStack() as patched:
        for kind in (GreedyCoreset, StreamingCoreset):
            patched.enter_context(patch.multiple(kind, add=timed(kind.add), finish=timed(kind.finish)))
        learn(method, inputs, batch_size=1, progress=lambda *told: print(*told, file=sys.stderr))
    total = time.perf_counter() - started
    features = total - spent["choosing"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return row(
        f"{spent['choosing']:.0f} s choosing", f"{features:.0f} s features", features / spent["choosing"],
        "≥ 2, peak ≤ 3 GB", f"{len(samples)} images at {size} px, {backbone}, 1 %: peak {peak:.2f} GiB",
    )  # fmt: skip


ROWS: dict[str, Callable[[], list[str]]] = {
    "coreset": coreset,
    "scaling": scaling,
    "neighbours_384": neighbours_384,
    "neighbours_1536": neighbours_1536,
    "update": update,
    "high_resolution": high_resolution,
    **reconstruction_rows.ROWS,
}
MAIN_ROWS = ("coreset", "scaling", "neighbours_384", "update", "high_resolution", "inspect_reconstruction")
"""Those that `<!-- speed:main -->` shows: what a user waits for."""


def nearest_row(backbone: str, size: int) -> list[str]:
    """torch.cdist and a minimum against ours, 1024 queries each from 20 test images of all kinds."""
    data = blemish.open_dataset(product("mvtec_ad/bottle"))
    torch.manual_seed(0)
    centres = choose(list(grids_of(backbone, data.train)), size=size)[1][:size]
    search = NearestNeighbours()
    search.build(centres)
    queries = [grid.flatten(0, 1) for grid in grids_of(backbone, data.test[::4])]
    search.nearest(queries[0])
    slow = fast = 0.0
    differing, worst = 0, 0.0
    for query in queries:
        started = time.perf_counter()
        found = torch.cdist(query, search.points).min(1)
        slow += time.perf_counter() - started
        started = time.perf_counter()
        distances, indices = search.nearest(query)
        fast += time.perf_counter() - started
        differing += int((indices != found.indices).sum())
        worst = max(worst, float((distances - found.values).abs().max()))
    count = len(queries)
    return row(
        f"{1000 * fast / count:.1f} ms", f"{1000 * slow / count:.0f} ms by torch.cdist + min", slow / fast,
        "≥ 8, exact",
        f"1024 queries × {len(search.points)} × {search.points.shape[1]}, mean of {count} test images; other index for "
        f"{differing} queries, largest difference {worst:.1e}",
    )  # fmt: skip


def row(ours: str, compared: str, ratio: float, target: str, note: str) -> list[str]:
    """The measured columns."""
    return [ours, compared, f"{ratio:.2f}", target, note]


def greedy_in_sweeps(patches: Tensor, count: int) -> Tensor:
    """Exact greedy k-centre as it is usually written: all patches are gone through for each one chosen."""
    points = patches @ projection(patches.shape[1])
    start = torch.randint(len(points), (START_POINTS,))
    latest = torch.cdist(points, points[start]).mean(1).argmax()
    norms = points.square().sum(1)
    chosen = torch.empty(count, dtype=torch.int64)
    nearest = torch.full_like(norms, torch.inf)
    for i in range(count):
        chosen[i] = latest
        distances = torch.addmv(norms, points, points[latest], alpha=-2).add_(norms[latest])
        torch.minimum(nearest, distances, out=nearest)
        nearest[latest] = -torch.inf
        latest = nearest.argmax()
    return chosen


def timed_choice(
    select: Callable[[Tensor, int], Tensor], patches: Tensor, count: int
) -> tuple[float, Tensor]:
    """Seconds that a selection takes, and what it selects."""
    torch.manual_seed(0)
    started = time.perf_counter()
    chosen = select(patches, count)
    return time.perf_counter() - started, chosen


def choose(grids: list[Tensor], *, size: int) -> tuple[float, Tensor]:
    """Seconds to choose from image grids (h, w, D) shown in random order, and the chosen patches."""
    torch.manual_seed(0)
    order = torch.randperm(len(grids)).tolist()
    started = time.perf_counter()
    stream = StreamingCoreset(len(grids) * grids[0].shape[:2].numel(), size=size)
    for index in order:
        patches = grids[index].flatten(0, 1)
        stream.add(patches, torch.full((len(patches), 1), index))
    centres, _ = stream.finish()
    return time.perf_counter() - started, centres


def covering_radius(patches: Tensor, centres: Tensor) -> float:
    """Largest distance of a patch to its nearest centre."""
    search = NearestNeighbours()
    search.build(centres)
    return max(float(search.nearest(part)[0].max()) for part in patches.split(8192))


def product(name: str) -> str:
    """Where a data set lies."""
    return f"{os.environ['BLEMISH_DATA']}/{name}"


def all_grids(name: str) -> Tensor:
    """Patches of all normal images of a data set, (N, h, w, D)."""
    samples = blemish.open_dataset(product(name)).train
    return torch.cat([grid[None] for grid in grids_of(BACKBONE, samples)])


def grids_of(backbone: str, samples: tuple[Sample, ...]) -> Iterator[Tensor]:
    """Each image's patches (h, w, D)."""
    method = blemish.PatchCore(backbone=backbone)
    with torch.inference_mode():
        for images in stacked(Inputs(samples, Preprocess()), 8):
            yield from method.embed(torch.from_numpy(images)).contiguous()


def table(rows: list[Row], which: str | None) -> str:
    """Markdown: all rows, or the main ones where `which` is "main"."""
    shown = [row for row in rows if which is None or row["row"] in MAIN_ROWS]
    lines = ["| row | blemish | compared with | ratio | target | what |", "|---|---|---|---|---|---|"]
    lines += ["| " + " | ".join([f"`{row['row']}`", *(row[c] for c in COLUMNS[1:6])]) + " |" for row in shown]
    return "\n".join([*lines, "", *measured_on(rows)])


if __name__ == "__main__":
    main()
