"""Two test processes share two cores: torch's own threads on top of that only wait for each other."""

import os

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def cluster():
    """A Ray cluster on this machine: a head that runs nothing, and the nodes that tests add."""
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # before the import: loopback alone
    import ray
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield made
    ray.shutdown()
    made.shutdown()
