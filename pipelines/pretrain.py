"""Phase 1: 1.7T tokens in sequences of 1,024, from DCLM and Dolma v1.7.

    python pipelines/pretrain.py --out runs/ettin  # this machine
    python pipelines/pretrain.py --out runs/ettin --executor ray --ray-address auto  # a Ray cluster
    python pipelines/pretrain.py --out runs/small --scale 1e-6 --sources-root mirror  # from a mirror
    python pipelines/pretrain.py --help

The mixture is `ettin_data/recipes/ettin/pretrain.yaml`. The changes below, and --set, are all that is between your mix
and Ettin's.
"""

from ettin_data.cli.main import build_script

CHANGES = [
    # "sources.starcoder.tokens=300B",
    # "sources.dclm.filters=[exact_duplicate, {length: {min_chars: 200}}]",
    # "pack.strategy=best_fit",
]

if __name__ == "__main__":
    build_script("pretrain", CHANGES)
