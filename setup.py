"""The loops in C, which are optional: without a C compiler numpy does the same, for a multiple of the time."""

from setuptools import Extension, setup

FOLDERS = ("base", "dedup", "stages/contamination")

setup(
    ext_modules=[
        Extension(
            f"ettin_data.{folder.replace('/', '.')}.loops",
            [f"ettin_data/{folder}/loops.c"],
            depends=["ettin_data/base/loops.h"],
            extra_compile_args=["-O3"],
            optional=True,
        )
        for folder in FOLDERS
    ]
)
