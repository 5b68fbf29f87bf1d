"""The report of a model with rules: verdicts by label, rules and certificate; misses are images that are OK."""

from pathlib import Path

import blemish
from blemish.rules.record import Accepted, Allowance, Rules
from cli_data import draw_part, write


def test_the_report_tells_verdicts_rules_and_certificate(tmp_path: Path) -> None:
    good = [write(tmp_path / "train" / "good" / f"{i}.png", draw_part(i)) for i in range(8)]
    for i in range(4):
        write(tmp_path / "test" / "good" / f"{i}.png", draw_part(100 + i))
        write(tmp_path / "test" / "spot" / f"{i}.png", draw_part(200 + i, is_defective=True))
    blemish.fit("variation", good, preprocess=blemish.Preprocess(size=(48, 64))).save(tmp_path / "m")
    rules = Rules(accepted=Accepted(), allowances=(Allowance(name="dust", where={"area_px_max": 5.0}),))
    blemish.set_rules(tmp_path / "m", rules)
    data = blemish.open_dataset(tmp_path)
    blemish.certify(tmp_path / "m", data.test[:4], data.test[4:], miss_rate=0.6)
    model = blemish.load(tmp_path / "m")
    blemish.evaluate(model, data.test, report=tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text("utf-8")
    assert "Defective images: 0 OK, 0 REVIEW, 4 NG and 0 INVALID." in page
    assert "Normal images: " in page
    assert "Allowed as dust if area_px ≤ 5, everywhere." in page
    assert "4 of 4 defective images are not OK" in page
    assert "major regions: 1 (accepted: 0)" in page
    blemish.recalibrate(tmp_path / "m", image=1e3)
    blemish.evaluate(blemish.load(tmp_path / "m"), data.test, report=tmp_path / "r.html")
    assert "void: something that decides verdicts was changed" in (tmp_path / "r.html").read_text("utf-8")
