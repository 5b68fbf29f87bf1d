import numpy as np
import pytest
import torch

from blemish.blocks.anomaly_map import upsample
from blemish.blocks.patches import stack_layers
from blemish.features.backbone import Backbone
from blemish.methods.padim import PaDiM
from blemish.methods.position_gaussians import SIGMA
from blemish.testing.parts import defective_part, normal_parts
from blemish.training import learn

RANDOM = "resnet18:random"


def learned(**arguments: object) -> PaDiM:
    method = PaDiM(**{"backbone": RANDOM, "layers": (1, 2), "dimensions": 12, **arguments})  # type: ignore[arg-type]
    images = normal_parts(20)
    learn(method, images, batch_size=7)
    return method.eval()


@torch.no_grad()
def test_map_is_the_mahalanobis_distance_of_the_drawn_channels() -> None:
    method = learned()
    image = torch.from_numpy(defective_part(1.0))[None]
    train = torch.from_numpy(normal_parts(20))
    stacked = stack_layers(Backbone(RANDOM, (1, 2))(torch.cat([train, image])), "nearest")[
        :, method.channels
    ].double()
    data, query = stacked[:-1].flatten(2), stacked[-1].flatten(1)
    centred = data - data.mean(0)
    covariance = torch.einsum("nip,njp->pij", centred, centred) / 19
    ridge = 0.01 * covariance.diagonal(dim1=1, dim2=2).mean()
    difference = (query - data.mean(0)).T
    solved = torch.linalg.solve(
        covariance + ridge * torch.eye(12, dtype=torch.float64), difference[..., None]
    )
    grid = (difference[:, None] @ solved).flatten().sqrt().reshape(1, 16, 24).float()
    expected = upsample(grid, (64, 96), SIGMA)
    prediction = method(image)
    assert torch.allclose(prediction.anomaly_map, expected, rtol=5e-3, atol=5e-3)
    assert float(prediction.score) == pytest.approx(float(expected.max()), rel=5e-3)


def test_channels_are_drawn_by_the_seed_and_saved_with_the_model() -> None:
    first, second = learned(), learned()
    assert torch.equal(first.channels, second.channels)
    assert len(first.channels.unique()) == 12
    assert "channels" in first.state_dict()


def test_more_dimensions_than_channels_use_all_channels() -> None:
    assert learned(dimensions=8192).channels.tolist() == list(range(64 + 128))


@torch.no_grad()
def test_ridge_follows_the_feature_scale() -> None:
    """Features a thousand times larger give the same distances: the ridge is relative."""
    small, large = learned(), PaDiM(backbone=RANDOM, layers=(1, 2), dimensions=12)
    handle = large.features.register_forward_hook(lambda module, inputs, maps: [m * 1000 for m in maps])
    images = normal_parts(20)
    learn(large, images, batch_size=7)
    image = torch.from_numpy(defective_part(1.0))[None]
    assert torch.allclose(large.eval()(image).anomaly_map, small(image).anomaly_map, rtol=1e-2)
    handle.remove()


def test_the_paper_adds_its_ridge_in_the_unit_of_the_features() -> None:
    assert PaDiM.presets["paper"].arguments["absolute_ridge"]
    method = learned(ridge=0.3, absolute_ridge=True)
    with torch.no_grad():
        features = method.embed(torch.from_numpy(normal_parts(20)))
        found = float(method.gaussians.distance(features[:1])[0, 3, 5])
    values = features[:, :, 3, 5].double().numpy()
    covariance = np.cov(values.T) + 0.3 * np.eye(12)
    difference = values[0] - values.mean(0)
    expected = np.sqrt(difference @ np.linalg.inv(covariance) @ difference)
    assert found == pytest.approx(float(expected), rel=1e-3)
