"""A sound manifest, as a record and as JSON."""

import json
from pathlib import Path
from typing import Any

from blemish.calibration import Calibration
from blemish.data.preprocess import Preprocess
from blemish.manifest import (
    FILE,
    WEIGHTS,
    History,
    Manifest,
    TrainingData,
    Update,
    parse_manifest,
)

Json = dict[str, Any]


def manifest(**changes: Any) -> Manifest:
    values: Json = {
        "method": "pca",
        "arguments": {"components": 4, "名": "中文"},
        "preprocess": Preprocess(size=(32, 48), resize="fit", crop=(16, 16)),
        "calibration": Calibration.from_normal([1.0, 2.0], [3.0, 4.0], [0.5, 0.5], 0.25),
        "seed": 7,
        "data": TrainingData(
            category="disc",
            learned_from=1,
            held_out=1,
            skipped=0,
            group_by="none",
            groups=(0,),
            images=("good/名 1.png",),
            fingerprint="cd" * 32,
            hashes=("00ff" * 4, "11ee" * 4),
        ),
        "history": History(seconds=1.5, losses=({"loss": 0.25},), updates=(Update(added=2, seconds=0.5),)),
        "files": {WEIGHTS: "ab" * 32},
    }
    return Manifest(**values | changes)


def as_json(changes: Json | None = None) -> Json:
    values: Json = json.loads(json.dumps(manifest().to_dict()))
    return values | (changes or {})


def parse(values: object) -> Manifest:
    return parse_manifest(json.dumps(values), Path(FILE))
