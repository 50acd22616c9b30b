"""The setup script in the form of Foundry's template."""

import os

from setuptools import find_packages, setup

setup(
    name=os.environ["PKG_NAME"],
    version=os.environ["PKG_VERSION"],
    description="Samples of HealthKit, and tables of days, nights and workouts",
    author="The Atlas maintainers",
    packages=find_packages(exclude=["contrib", "docs", "test"]),
    package_data={"healthkit": ["*.sql"]},
    # Dependencies are listed in conda_recipe/meta.yaml.
    install_requires=[],
    entry_points={"transforms.pipelines": ["root = healthkit.pipeline:my_pipeline"]},
)
