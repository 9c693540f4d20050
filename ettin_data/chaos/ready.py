"""Imported by the process that the builds of an experiment are forked from: what each would do first is done."""

from ettin_data.base.modules import code_digest
from ettin_data.build import assemble, pool
from ettin_data.stages.filters.registry import shipped

shipped()
for module in (pool, assemble):
    code_digest(module.__name__)
