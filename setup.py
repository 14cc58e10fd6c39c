"""The packages: those below gradscope, and the samples beside it; the rest is in setup.cfg."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["gradscope*"]), "gradscope.samples"])
