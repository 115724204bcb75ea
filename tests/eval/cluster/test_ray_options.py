import pytest

import longvideo_env as lv
from agents.cluster.joining import RayOptions
from eval.run_policy import parse_options
from longvideo_env.errors import SpecError


def test_flags_say_which_cluster_and_what_a_worker_gets():
    args = [
        "--policy",
        "random",
        "--ray",
        "local",
        "--ray_workers",
        "3",
        "--gpus-per-worker",
        "0.5",
    ]
    run, _, _ = parse_options(args)
    assert run.ray == RayOptions("local", 3, 1.0, 0.5)
    assert run.ray.resources == {"num_cpus": 1.0, "num_gpus": 0.5}
    assert parse_options(args[:2])[0].ray is None


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"address": ""}, "--ray must be"),
        ({"workers": -1}, "--ray-workers"),
        ({"gpus_per_worker": -1.0}, "--gpus-per-worker"),
        ({"nodes": 3}, "unknown option of ray 'nodes'"),
    ],
)
def test_what_means_nothing_is_said(options, problem):
    with pytest.raises(SpecError, match=problem):
        lv.evaluate("random", dataset="mini", limit=1, progress=False, ray=options)
