"""Finds defects on industrial products after learning from normal images only.

import blemish

data = blemish.open_dataset("bottle/")
model = blemish.fit("patchcore", data.train)
print(blemish.evaluate(model, data.test))
model.save("bottle.blemish")
"""

from typing import TYPE_CHECKING, Any

from blemish.methods import CATALOGUE

if TYPE_CHECKING:  # the names of `_HOMES`, for type checkers and editors
    from blemish.calibration import Calibration as Calibration
    from blemish.data.dataset import Dataset as Dataset
    from blemish.data.dataset import list_categories as list_categories
    from blemish.data.dataset import open_dataset as open_dataset
    from blemish.data.images import read_image as read_image
    from blemish.data.input_size import auto_preprocess as auto_preprocess
    from blemish.data.preprocess import Preprocess as Preprocess
    from blemish.errors import BlemishError as BlemishError
    from blemish.errors import BlemishWarning as BlemishWarning
    from blemish.inspection.result import Inspection as Inspection
    from blemish.inspection.result import Unreadable as Unreadable
    from blemish.inspection.suspects import Suspects as Suspects
    from blemish.methods import *  # noqa: F403  # the classes of the catalogue
    from blemish.methods.arguments import argument as argument
    from blemish.methods.base import Method as Method
    from blemish.methods.base import Preset as Preset
    from blemish.metrics.evaluation import Evaluation as Evaluation
    from blemish.model import Model as Model
    from blemish.model import load as load
    from blemish.model_folder import undo as undo
    from blemish.model_settings import recalibrate as recalibrate
    from blemish.model_settings import set_rules as set_rules
    from blemish.plugins import create_method as create_method
    from blemish.plugins import method_names as method_names
    from blemish.plugins import preset_preprocess as preset_preprocess
    from blemish.plugins import register_method as register_method
    from blemish.progress import progress_bars as progress_bars
    from blemish.regions import Region as Region
    from blemish.rules import Rules as Rules
    from blemish.rules import read_rules as read_rules
    from blemish.types import Prediction as Prediction
    from blemish.types import Sample as Sample
    from blemish.workflow.certify import certify as certify
    from blemish.workflow.evaluate import evaluate as evaluate
    from blemish.workflow.fit import fit as fit
    from blemish.workflow.replay import replay as replay
    from blemish.workflow.suspects import suspects as suspects
    from blemish.workflow.update import remove_like as remove_like
    from blemish.workflow.update import update as update

    __version__: str

_HOMES = {
    name: module
    for module, names in {
        "blemish.calibration": ("Calibration",),
        "blemish.data.dataset": ("Dataset", "list_categories", "open_dataset"),
        "blemish.data.images": ("read_image",),
        "blemish.data.input_size": ("auto_preprocess",),
        "blemish.data.preprocess": ("Preprocess",),
        "blemish.errors": ("BlemishError", "BlemishWarning"),
        "blemish.inspection.result": ("Inspection", "Unreadable"),
        "blemish.inspection.suspects": ("Suspects",),
        "blemish.methods.arguments": ("argument",),
        "blemish.methods.base": ("Method", "Preset"),
        "blemish.metrics.evaluation": ("Evaluation",),
        "blemish.model": ("Model", "load"),
        "blemish.model_folder": ("undo",),
        "blemish.model_settings": ("recalibrate", "set_rules"),
        "blemish.plugins": ("create_method", "method_names", "preset_preprocess", "register_method"),
        "blemish.regions": ("Region",),
        "blemish.rules": ("Rules", "read_rules"),
        "blemish.progress": ("progress_bars",),
        "blemish.types": ("Prediction", "Sample"),
        "blemish.workflow.certify": ("certify",),
        "blemish.workflow.evaluate": ("evaluate",),
        "blemish.workflow.fit": ("fit",),
        "blemish.workflow.replay": ("replay",),
        "blemish.workflow.suspects": ("suspects",),
        "blemish.workflow.update": ("remove_like", "update"),
    }.items()
    for name in names
} | {target.partition(":")[2]: target.partition(":")[0] for target in CATALOGUE.values()}
"""Public name → module, which is imported when the name is first used, so that `import blemish` is fast."""

__all__ = ["__version__", *_HOMES]

if not TYPE_CHECKING:  # otherwise type checkers would accept any name

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            from importlib.metadata import version

            return version("blemish")
        if name not in _HOMES:
            raise AttributeError(f"module 'blemish' has no attribute {name!r}")
        from importlib import import_module

        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
