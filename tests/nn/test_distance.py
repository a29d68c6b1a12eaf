import torch

from metaniche.nn.distance import DistanceEncoding


def test_nearby_distances_differ_more_than_far_ones():
    encoding = DistanceEncoding(radius_um=150.0)
    near, near_too, far, far_too = encoding(torch.tensor([5.0, 15.0, 130.0, 140.0]))
    assert (near - near_too).norm() > 3 * (far - far_too).norm()


def test_every_distance_within_the_radius_is_seen():
    out = DistanceEncoding(radius_um=150.0)(torch.linspace(0, 150, 200))
    assert out.shape == (200, 8)
    assert (out.max(1).values > 0.5).all()
