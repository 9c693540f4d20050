"""Phase 1: 1.7T tokens in sequences of 1,024, from DCLM and Dolma v1.7.

    python pipelines/pretrain.py --out runs/ettin                                   # the whole phase, this machine
    python pipelines/pretrain.py --out runs/ettin --executor ray --ray-address auto # a Ray cluster
    python pipelines/pretrain.py --out runs/small --scale 1e-6 --sources-root mirror

The mixture is `ettin_data/recipes/pretrain.yaml`. What you change below, or with --set, is the whole difference between
your mix and Ettin's.
"""

import typer

from ettin_data import cli


def main(
    out: cli.Out,
    sources_root: cli.Root = None,
    scale: cli.Scale = 1.0,
    sets: cli.Sets = None,
    add_source: cli.Adds = None,
    drop_source: cli.Drops = None,
    executor: cli.Kind = "local",
    workers: cli.Workers = None,
    ray_address: cli.RayAddress = None,
) -> None:
    changes = [
        # "sources.starcoder.tokens=300B",
        # "sources.dclm.filters=[exact_duplicate, {length: {min_chars: 200}}]",
        # "pack.strategy=best_fit",
        *(sets or []),
    ]
    cli.build("pretrain", out, sources_root, scale, changes, add_source, drop_source, executor, workers, ray_address)


if __name__ == "__main__":
    cli.run(main)
