"""Trains methods on the normal images of one fit: the one that is kept, and others that leave some images out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blemish.calibration import Calibration
from blemish.data.cache import CacheBudget
from blemish.data.input_size import Resolution
from blemish.data.loading import Inputs
from blemish.data.preprocess import Preprocess
from blemish.manifest import History as Record
from blemish.manifest import Manifest, TrainingData
from blemish.scoring import Scorer, batch_size
from blemish.types import Progress, Sample, Watch, no_watch
from blemish.workflow.auxiliary import Auxiliary, ordered_fingerprint
from blemish.workflow.normal_images import NormalImages, without_watched

if TYPE_CHECKING:
    from blemish.methods.base import Method
    from blemish.training import History
    from blemish.training.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class Learning:
    """A method that has not learned yet, and the settings of its training."""

    method: "Method"
    name: str
    preprocess: Preprocess
    seed: int
    device: str
    cache: CacheBudget
    auxiliary: Auxiliary

    def manifest(
        self, data: TrainingData, calibration: Calibration, history: Record, resolution: Resolution | None
    ) -> Manifest:
        """The manifest of the trained model."""
        return Manifest(
            method=self.name,
            arguments=self.method.arguments,
            preprocess=self.preprocess,
            resolution=resolution,
            calibration=calibration,
            seed=int(self.seed),
            data=data,
            history=history,
        )

    def run(
        self,
        normal: NormalImages,
        checkpoint: Path | str | None,
        resume: bool,
        watch: Watch,
        progress: Progress,
    ) -> "History":
        """Train the method, from the beginning or from a checkpoint of the same training."""
        from blemish.training.checkpoint import Checkpoint

        groups = normal.groups_of(normal.learned)
        saved = None
        if checkpoint:
            identity = {
                "method": self.name,
                "arguments": self.method.arguments,
                "preprocess": self.preprocess.to_dict(),
                "images": ordered_fingerprint([sample.path for sample in normal.learned], normal.hashes),
                "groups": groups,
                "auxiliary images": self.auxiliary.identity,
                "seed": self.seed,
            }
            saved = Checkpoint(Path(checkpoint), identity, resume=resume)
        leave_out = not normal.held_out
        return self._train(self.method, normal.learned, groups, progress, saved, watch, leave_out=leave_out)

    def on(self, learned: Sequence[Sample], groups: Sequence[int], progress: Progress) -> Scorer:
        """A scorer whose method, with the same arguments, learned from these images only, whose groups are given."""
        from blemish.runtimes.torch import TorchRuntime  # torch is not needed to inspect

        method = type(self.method)(**self.method.arguments)
        self._train(method, learned, groups, progress)
        return Scorer(TorchRuntime(method, self.device), self.preprocess)

    def _train(
        self,
        method: "Method",
        learned: Sequence[Sample],
        groups: Sequence[int],
        progress: Progress,
        checkpoint: "Checkpoint | None" = None,
        watch: Watch = no_watch,
        *,
        leave_out: bool = False,
    ) -> "History":
        from blemish.training import learn

        watched: Sequence[Sample] = ()
        if method.uses_held_out:
            learned, watched = without_watched(learned, groups)
        others = self.preprocess.enlarged(method.auxiliary_scale)
        return learn(
            method,
            Inputs(learned, self.preprocess),
            held_out=Inputs(watched, self.preprocess),
            auxiliary=[Inputs(product, others) for product in self.auxiliary.products],
            batch_size=batch_size(self.preprocess),
            seed=self.seed,
            device=self.device,
            budget=self.cache,
            groups=groups if leave_out else None,
            checkpoint=checkpoint,
            watch=watch,
            progress=progress,
        )
