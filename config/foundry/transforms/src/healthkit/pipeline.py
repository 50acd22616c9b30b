"""The pipeline that Foundry finds: all transforms in `healthkit.datasets`."""

from transforms.api import Pipeline

from healthkit import datasets

my_pipeline = Pipeline()
my_pipeline.discover_transforms(datasets)
