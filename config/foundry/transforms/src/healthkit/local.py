"""Tables in a local folder, as Parquet, with a folder for each month.

`state.json` lists the raw files that the tables hold. It is removed while they change, so that an
update that was interrupted is followed by a full one.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

from healthkit.raw import read_raw
from healthkit.updates import SCHEMAS, Update, add_rows, build_all, read_latest

FORMAT = 1  # of the tables: another number means that they are built anew
State = dict[str, object]


def start_spark(cores: str = "*", memory: str = "4g") -> SparkSession:
    builder = SparkSession.builder.master(f"local[{cores}]").appName("healthkit")
    for name, value in {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": memory,
        "spark.log.level": "ERROR",
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "8",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def update_folder(spark: SparkSession, raw: Path, out: Path, zone: str = "UTC") -> str:
    """Add the raw files that are new to the tables. Returns a sentence about it.

    The tables are built anew if a raw file was changed or removed, as the erasure of a person does.
    """
    now: State = {"format": FORMAT, "zone": zone, "files": list_files(raw)}
    state_file = out / "state.json"
    before: State = json.loads(state_file.read_bytes()) if state_file.exists() else {}
    new = find_new(now, before)
    if new == []:
        return "There are no new files."
    paths = [str(raw / name) for name in (list_files(raw) if new is None else new)]
    latest = read_latest(read_raw(spark, paths), zone)
    if new is None:
        update = build_all(latest)
    else:
        update = add_rows(latest, read(spark, out, "samples"), read(spark, out, "deletions"))
    stage(update, out / "new")
    state_file.unlink(missing_ok=True)
    put_in_place(out, update.months)
    state_file.write_text(json.dumps(now), encoding="utf-8")
    spark.catalog.clearCache()
    return f"{len(paths)} new files; {describe_extent(update.months)} rewritten."


def describe_extent(months: list[str] | None) -> str:
    if months is None:
        return "all months"
    return f"months: {', '.join(months)}" if months else "no month"


def list_files(raw: Path) -> dict[str, list[int]]:
    """Return the size and time of each raw file, by its path in the folder."""
    files = (path for path in raw.rglob("*") if path.suffix in {".ndjson", ".parquet"})
    found = ((path.relative_to(raw).as_posix(), path.stat()) for path in sorted(files))
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in found}


def find_new(now: State, before: State) -> list[str] | None:
    """Return the names of the new files, or None if everything has to be read again."""
    files, known = now["files"], before.get("files")
    if not isinstance(files, dict) or not isinstance(known, dict):
        return None
    is_same = all(now[name] == before.get(name) for name in ("format", "zone"))
    if not is_same or any(files.get(name) != stat for name, stat in known.items()):
        return None
    return [name for name in files if name not in known]


def read(spark: SparkSession, out: Path, table: str) -> DataFrame:
    """Return a table. Its schema is given, because a month would be taken for a date."""
    return spark.read.schema(SCHEMAS[table]).parquet(str(out / table))


def stage(update: Update, folder: Path) -> None:
    """Write the new months into a folder of their own: they are made from the old ones."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, table in update.tables().items():
        table.write.partitionBy("month").parquet(str(folder / name))
    update.deletions.write.parquet(str(folder / "deletions"))


def put_in_place(out: Path, months: list[str] | None) -> None:
    """Replace the touched months, and append the deletions."""
    for source in sorted((out / "new").iterdir()):
        table = out / source.name
        if months is None:
            shutil.rmtree(table, ignore_errors=True)
        elif table.name != "deletions":
            for month in months:
                shutil.rmtree(table / f"month={month}", ignore_errors=True)
        table.mkdir(exist_ok=True)
        for part in list_parts(source):
            part.rename(table / part.name)
    shutil.rmtree(out / "new")


def list_parts(folder: Path) -> Iterator[Path]:
    """Yield what Spark has written there: folders of months, or files."""
    return (path for path in list(folder.iterdir()) if path.name.startswith(("month=", "part-")))
