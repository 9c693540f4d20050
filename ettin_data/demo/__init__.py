"""The demo: a mirror of the sources made of real text that every Python installation has, and three small phases."""
