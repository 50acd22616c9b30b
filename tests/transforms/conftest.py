"""One Spark for all of these tests, on two cores."""

from importlib import import_module

import pytest

from tests.support.transforms import TransformsRun, require_spark


@pytest.fixture(scope="session")
def spark():
    require_spark()
    session = import_module("healthkit.local").start_spark("2", "2g")
    session.conf.set("spark.sql.shuffle.partitions", "2")  # the tables are small
    yield session
    session.stop()


@pytest.fixture
def run(spark, tmp_path):
    return TransformsRun(spark, tmp_path)
