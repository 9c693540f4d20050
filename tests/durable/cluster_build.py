"""A build on two Ray nodes in one machine, one of which goes away in the middle of a split. Run by a test, apart from
it: `python cluster_build.py <sources> <out>`."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import tiny_run
from ray.cluster_utils import Cluster

from ettin_data.base.progress import Silent
from ettin_data.build import build as run
from ettin_data.build.prepare import BuildOptions
from ettin_data.executor import ExecutorOptions


def main(sources: Path, out: Path) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    node = cluster.add_node(num_cpus=1)
    said: list[str] = []

    class Said(Silent):
        def say(self, message: str) -> None:
            said.append(message)

    def lose_a_node() -> None:
        while len(list((out / "pretrain/pools").glob("*/.tmp-*"))) < 2:  # a split is being built on each node
            time.sleep(0.002)
        cluster.remove_node(node, allow_graceful=False)
        said.append("lost a node")

    watch = threading.Thread(target=lose_a_node, daemon=True)
    watch.start()
    workers = ExecutorOptions("ray", ray_address=cluster.address, retry_delay_s=0.1)
    try:
        summary = run.build_phase(tiny_run.tiny_recipe(sources), BuildOptions(out, None, workers, progress=Said()))
    finally:
        cluster.shutdown()
    assert "lost a node" in said and any(line.startswith("retried pools/") for line in said), said
    print(summary.root)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
