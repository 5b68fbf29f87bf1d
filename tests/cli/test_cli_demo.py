"""`blemish demo` on few images and with random weights writes everything that it documents."""

from pathlib import Path

import blemish
from blemish.cli.demo import IMAGE_SIZE, run_demo
from blemish.types import no_progress
from cli_data import without_decimals


def test_demo(tmp_path: Path) -> None:
    text = run_demo(tmp_path / "demo", backbone="compact:random", images=5, progress=no_progress)

    folder = tmp_path / "demo"
    assert without_decimals(text).startswith("Learned from 5 images in # s, held out 0.\n")
    assert text.endswith(
        f"\n\nImages: {folder / 'plate'}\nHeat maps: {folder / 'heatmaps'}\nReport: {folder / 'report.html'}"
    )
    assert sorted(path.name for path in folder.iterdir()) == ["heatmaps", "model", "plate", "report.html"]
    tested = blemish.open_dataset(folder / "plate").test
    written = {
        path.relative_to(folder / "heatmaps").as_posix() for path in (folder / "heatmaps").rglob("*.jpg")
    }
    assert written == {f"{sample.defect_type}/{sample.path.stem}_heatmap.jpg" for sample in tested}
    defect_types = {sample.defect_type for sample in tested if sample.label}
    assert len(defect_types) == 6
    assert defect_types <= {line.split()[0] for line in text.splitlines() if line}, "a row for each"
    manifest = blemish.load(folder / "model").manifest
    assert (manifest.method, manifest.preprocess.size) == ("patchcore", IMAGE_SIZE)
    assert "</html>" in (folder / "report.html").read_text("utf-8")
