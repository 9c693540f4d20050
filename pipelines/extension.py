"""Phase 2, context extension: 250B tokens in sequences of 8,000, mostly filtered DCLM from Dolmino.

    python pipelines/extension.py --out runs/ettin                                   # the whole phase, this machine
    python pipelines/extension.py --out runs/ettin --executor ray --ray-address auto # a Ray cluster
    python pipelines/extension.py --out runs/small --scale 1e-6 --sources-root mirror

The mixture is `ettin_data/recipes/extension.yaml`. What you change below, or with --set, is the whole difference between
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
        # "sources.starcoder.tokens=50B",
        # "sources.dclm_dolmino.filters=[exact_duplicate, {length: {min_chars: 200}}]",
        # "pack.strategy=best_fit",
        *(sets or []),
    ]
    cli.build("extension", out, sources_root, scale, changes, add_source, drop_source, executor, workers, ray_address)


if __name__ == "__main__":
    cli.run(main)
