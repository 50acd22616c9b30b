"""The transforms outside of Foundry: `python -m healthkit --raw FOLDER --out FOLDER`."""

import argparse
import sys
from pathlib import Path
from zoneinfo import available_timezones

from healthkit.local import start_spark, update_folder


def main() -> int:
    """Read the new raw files of a folder, and update the tables in another."""
    parser = argparse.ArgumentParser("python -m healthkit", description=main.__doc__)
    parser.add_argument("--raw", type=Path, required=True, help="folder of the raw files")
    parser.add_argument("--out", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--zone", default="UTC", help="time zone of days and nights [UTC]")
    options = parser.parse_args()
    if not options.raw.is_dir():
        parser.error(f"{options.raw} is not a folder.")
    if options.zone not in available_timezones():
        parser.error(f"{options.zone} is not a time zone, such as Europe/Berlin.")
    spark = start_spark()
    try:
        report = update_folder(spark, options.raw, options.out, options.zone)
    finally:
        spark.stop()
    print(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
