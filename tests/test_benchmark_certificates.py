"""The table of certificates: what a split measures, and that no promise is broken more often than its confidence."""

import math

import numpy as np
from benchmarks import certificates
from benchmarks.tables import read_rows

from blemish.calibration import Calibration

CALIBRATION = Calibration.from_normal(np.linspace(0, 1, 200), np.linspace(0, 1, 200), np.zeros(200), 0.01)


def test_defects_that_are_far_away_are_never_missed() -> None:
    row = certificates.splits(np.full(200, 5.0), np.zeros(10), np.zeros(10, np.bool_), CALIBRATION, 0.05)
    assert (row["half"], row["holds"], row["missed"], row["broken"]) == ("100", "1.000", "0.0000", "0.000")
    assert (row["proved"], row["review"]) == ("0.0500", "0.0000")


def test_too_few_defects_prove_less() -> None:
    defects = np.linspace(0.2, 0.9, 40)
    good = np.array([0.1, 0.5, 0.95, 2.0])
    row = certificates.splits(defects, good, good > 1, CALIBRATION, 0.02)
    assert float(row["proved"]) == round(1 - 0.05 ** (1 / 20), 4)
    assert (row["holds"], row["scrap"]) == ("0.000", "0.2500")
    assert 0.4 < float(row["review"]) <= 0.5


def test_what_is_proved_holds_on_the_other_half() -> None:
    rows = read_rows(certificates.TABLE)
    assert {(row["data"], row["rules"]) for row in rows} == {
        (data, rules) for data in certificates.SETS for rules in certificates.RULES
    }
    limit = 0.05 + 3 * math.sqrt(0.05 * 0.95 / certificates.SPLITS)
    for row in rows:
        assert float(row["broken"]) <= limit, row
