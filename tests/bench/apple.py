"""Importing Apple's export: samples a second of one core, and memory, by the size of the XML.

The mix is that of a Watch owner; every record has a date of its own, as in a real export, because
dates are what a converter could remember. `BENCH_XML_MB` is the size (64 if absent, 1024 for the
figure of tests/bench/README.md); a file of that size is written to the folder for temporary files.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from atlas.apple import Conversion, encode_line, open_export
from tests.apple.exports import element, record, xml

XML_MB = int(os.environ.get("BENCH_XML_MB", "64"))
MIB = 1024 * 1024
ROUNDS = 3
BEGAN = datetime(2014, 9, 17)  # noqa: DTZ001  # as Apple writes it, with the offset behind it
CONTEXT = element("MetadataEntry", key="HKMetadataKeyHeartRateMotionContext", value="1")
QUANTITY = "HKQuantityTypeIdentifier"
# of a hundred records: how many, and what they are
MIX = [
    (37, {"type": f"{QUANTITY}ActiveEnergyBurned", "unit": "kcal", "value": "0.056"}),
    (28, {"type": f"{QUANTITY}BasalEnergyBurned", "unit": "kcal", "value": "10.5612345678901"}),
    (17, {"inside": CONTEXT}),
    (6, {"type": f"{QUANTITY}DistanceWalkingRunning", "unit": "km", "value": "0.0952553"}),
    (6, {"type": f"{QUANTITY}StepCount", "unit": "count", "value": "8", "device": "absent"}),
    (
        6,
        {
            "type": "HKCategoryTypeIdentifierSleepAnalysis",
            "value": "HKCategoryValueSleepAnalysisAsleepCore",
            "unit": "absent",
        },
    ),
]


def measure() -> Iterator[tuple[str, str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "export.xml"
        write(path, XML_MB * MIB)
        rates, peaks = zip(*(converted(path) for _ in range(ROUNDS)), strict=True)
    what = f"converting Apple's export, an XML of {XML_MB} MiB"
    yield what, f"{max(rates):,.0f} samples/s", "60,000/s"
    yield "... the most memory of the process", f"{max(peaks):,.0f} MiB", "100 MiB or less"


def write(path: Path, size: int) -> None:
    """An XML of about that size."""
    shapes = [
        record(startDate="{0}", endDate="{1}", creationDate="{1}", **attributes)
        for count, attributes in MIX
        for _ in range(count)
    ]
    hundred = [" " + shapes[number * 37 % len(shapes)] for number in range(len(shapes))]
    at = BEGAN
    with path.open("wb") as file:
        file.write(xml(end=""))
        while file.tell() < size:
            for shape in hundred:
                at += timedelta(seconds=7)
                begins, ends = f"{at} +0200", f"{at + timedelta(seconds=59)} +0200"
                file.write(shape.replace("{0}", begins).replace("{1}", ends).encode())
        file.write(b"</HealthData>\n")


def converted(path: Path) -> tuple[float, float]:
    """Samples a second and MiB, of a process of its own."""
    told = subprocess.run(
        [sys.executable, "-m", "tests.bench.apple", path],
        check=True,
        capture_output=True,
        text=True,
    )
    rate, peak = told.stdout.split()
    return float(rate), float(peak)


def main(path: Path) -> None:
    with open_export(path) as export:
        conversion, count = Conversion(export), 0
        began = time.process_time()
        for sample in conversion.samples():
            encode_line(sample)
            count += 1
        took = time.process_time() - began
    assert conversion.error is None
    print(count / took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
