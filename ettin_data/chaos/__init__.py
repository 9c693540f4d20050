"""Chaos: build while a seeded schedule kills, damages, fills disks and breaks the network; then demand the same root.

    result = run_chaos(Experiment(recipe, folder, kills=50, seed=7), print)
    assert result.ok

An undisturbed build gives the reference. Then the same recipe is built in another folder, in a process of its own that
the schedule treats badly; whenever a build ends, it must have the reference's root and bytes, and another one begins.
What is promised is the product's: nothing here but the same command again, and `repair` where a disk has forgotten
what it was told.

Rooms: `schedule` (what is done, from a seed), `child` (the build that is killed), `damage` (to finished files), `disk`
(a small one), `network` (a server with moods), `experiment` (all of it).
"""

from ettin_data.chaos.experiment import Experiment, Outcome, run_chaos
from ettin_data.chaos.schedule import Step, make_schedule

__all__ = ["Experiment", "Outcome", "Step", "make_schedule", "run_chaos"]
