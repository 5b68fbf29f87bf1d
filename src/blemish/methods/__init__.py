"""The catalogue: every method that comes with blemish, by its name in the CLI, the manifest and the docs."""

from collections.abc import Mapping

CATALOGUE: Mapping[str, str] = {
    "patchcore": "blemish.methods.patchcore:PatchCore",
    "padim": "blemish.methods.padim:PaDiM",
    "template": "blemish.methods.template:Template",
    "variation": "blemish.methods.variation:Variation",
    "texture": "blemish.methods.texture:Texture",
    "pca": "blemish.methods.pca:PCA",
}
"""Name → "module:class". A method's name is its file's name."""
