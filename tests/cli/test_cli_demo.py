"""`blemish demo` on few pictures and with random weights: everything it promises is there."""

from pathlib import Path

import blemish
from blemish.cli.demo import IMAGE_SIZE, run_demo
from blemish.types import no_progress
from cli_data import without_decimals


def test_demo(tmp_path: Path) -> None:
    text = run_demo(tmp_path / "demo", backbone="compact:random", images=5, progress=no_progress)

    folder = tmp_path / "demo"
    assert without_decimals(text).startswith("Learned from 4 images in # s, held out 1.\n")
    assert text.endswith(
        f"\n\nPictures: {folder / 'plate'}\nHeat maps: {folder / 'heatmaps'}\nReport: {folder / 'report.html'}"
    )
    assert sorted(path.name for path in folder.iterdir()) == ["heatmaps", "model", "plate", "report.html"]
    tested = blemish.open_dataset(folder / "plate").test
    written = {
        path.relative_to(folder / "heatmaps").as_posix() for path in (folder / "heatmaps").rglob("*.jpg")
    }
    assert written == {f"{sample.defect_type}/{sample.path.stem}_heatmap.jpg" for sample in tested}
    assert {sample.defect_type for sample in tested} <= set(
        text.split()
    )  # a row for each, "good" from the summary
    manifest = blemish.load(folder / "model").manifest
    assert (manifest.method, manifest.preprocess.size) == ("patchcore", IMAGE_SIZE)
    assert "</html>" in (folder / "report.html").read_text("utf-8")
