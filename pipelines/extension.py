"""Phase 2, context extension: 250B tokens in sequences of 8,000, mostly the DCLM part of Dolmino.

    python pipelines/extension.py --out runs/ettin  # this machine
    python pipelines/extension.py --out runs/ettin --executor ray --ray-address auto  # a Ray cluster
    python pipelines/extension.py --out runs/small --scale 1e-6 --sources-root mirror  # from a mirror
    python pipelines/extension.py --help

The mixture is `ettin_data/recipes/ettin/extension.yaml`. The changes below, and --set, are all that is between your mix
and Ettin's.
"""

from ettin_data.cli.main import build_script

CHANGES = [
    # "sources.starcoder.tokens=50B",
    # "sources.dclm_dolmino.filters=[exact_duplicate, {length: {min_chars: 200}}]",
    # "pack.strategy=best_fit",
]

if __name__ == "__main__":
    build_script("extension", CHANGES)
