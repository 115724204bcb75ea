import os
import signal
import subprocess
import time

import pytest

from agents.cluster.joining import load_ray

NOTICE_QUICKLY = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 3,
}
NODE = {
    "num_cpus": 1,
    "node_ip_address": "127.0.0.1",
    "object_store_memory": 100 * 2**20,
    "include_dashboard": False,
}


class ThreeNodes:
    """A cluster of three nodes on this machine. This process is not a node."""

    def __init__(self):
        load_ray()
        from ray.cluster_utils import Cluster

        head = {**NODE, "_system_config": NOTICE_QUICKLY}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes = [self.cluster.add_node(**NODE, wait=False) for _ in range(2)]
        self.cluster.wait_for_nodes(timeout=60)

    @property
    def address(self):
        return self.cluster.address

    def kill_one(self):
        """Kill a node with a busy worker by SIGKILL, and add another node."""
        for _ in range(1200):
            for i, node in enumerate(self.nodes):
                raylet = node.all_processes["raylet"][0].process.pid
                shown = ["ps", "-o", "args=", "--ppid", str(raylet)]
                children = subprocess.run(shown, capture_output=True, text=True).stdout
                if "EpisodeWorker.exchange" in children:
                    os.kill(raylet, signal.SIGKILL)
                    self.nodes[i] = self.cluster.add_node(**NODE, wait=False)
                    return
            time.sleep(0.1)
        raise AssertionError("no worker plays outside the head node")


@pytest.fixture(scope="session")
def three_nodes():
    nodes = ThreeNodes()
    yield nodes
    nodes.cluster.shutdown()
