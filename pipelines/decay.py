"""Phase 3, decay: premium sources in sequences of 8,000; the published rows add up to 76.3B tokens.

    python pipelines/decay.py --out runs/ettin  # this machine
    python pipelines/decay.py --out runs/ettin --executor ray --ray-address auto  # a Ray cluster
    python pipelines/decay.py --out runs/small --scale 1e-6 --sources-root mirror  # from a mirror
    python pipelines/decay.py --help

The mixture is `ettin_data/recipes/ettin/decay.yaml`. The changes below, and --set, are all that is between your mix
and Ettin's.
"""

from ettin_data.cli.main import build_script

CHANGES = [
    # "sources.books.tokens=5.3B",
    # "sources.dclm_dolmino.filters=[exact_duplicate, {length: {min_chars: 200}}]",
    # "pack.strategy=best_fit",
]

if __name__ == "__main__":
    build_script("decay", CHANGES)
