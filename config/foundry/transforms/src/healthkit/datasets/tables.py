"""The transform that Foundry runs. Change the three constants, then build."""

from pyspark.sql import functions as F
from transforms import expectations as E
from transforms.api import Check, Input, Output, incremental, transform

from healthkit.expectations import EXPECTATIONS
from healthkit.raw import read_raw
from healthkit.updates import SCHEMAS, Update, add_rows, build_all, read_latest

RAW = "/PROJECT/healthkit/raw"  # the path or RID of the dataset that Atlas writes
FOLDER = "/PROJECT/healthkit"  # the folder of the new datasets
ZONE = "UTC"  # the time zone of days and nights


def make_checks(name):
    expectation = EXPECTATIONS[name]
    key = Check(E.primary_key(*expectation.key), f"{name}: primary key", on_error="FAIL")
    filled = [
        Check(E.col(column).non_null(), f"{name}: {column} is filled", on_error="FAIL")
        for column in expectation.filled
    ]
    return [key, *filled]


def make_output(name):
    return Output(f"{FOLDER}/{name}", checks=make_checks(name))


@incremental(semantic_version=1)
@transform(
    raw=Input(RAW),
    samples=make_output("samples"),
    daily=make_output("daily"),
    sleep=make_output("sleep"),
    workouts=make_output("workouts"),
    deletions=make_output("deletions"),
)
def update_tables(ctx, raw, **outputs):
    """Add the raw files that are new since the last build, or build everything.

    Foundry decides which, and builds everything if a raw file was changed or removed.
    """
    spark = ctx.spark_session
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    files = raw.filesystem()  # in an incremental build, those that were added
    paths = [f"{files.hadoop_path}/{file.path}" for file in files.ls()]
    latest = read_latest(read_raw(spark, paths), ZONE)
    if not ctx.is_incremental:
        write_all(build_all(latest), outputs)
    elif paths:
        previous = {
            name: output.dataframe("previous", schema=SCHEMAS[name])
            for name, output in outputs.items()
        }
        write_months(
            add_rows(latest, previous["samples"], previous["deletions"]), previous, outputs
        )


def write_all(update: Update, outputs) -> None:
    for name, table in {**update.tables(), "deletions": update.deletions}.items():
        outputs[name].write_dataframe(table)


def write_months(update: Update, previous, outputs) -> None:
    """Write the touched months anew beside the others, if there are any; append the deletions."""
    is_other = ~F.col("month").isin(update.months)
    for name, table in update.tables().items() if update.months else ():
        outputs[name].set_mode("replace")
        outputs[name].write_dataframe(previous[name].filter(is_other).unionByName(table))
    outputs["deletions"].set_mode("modify")
    outputs["deletions"].write_dataframe(update.deletions)
