"""Import of Apple's export: samples a second on one core, and memory, by the size of the XML.

The mix of records is that of an Apple Watch owner. Every record has a different date, as in a real
export, so that a converter cannot benefit from caching dates. `BENCH_XML_MB` is the size (64 by
default, 1024 for the figure in tests/bench/README.md); the file is written to the folder for
temporary files.
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
BEGAN = datetime(2014, 9, 17)  # noqa: DTZ001  # Apple appends the offset
CONTEXT = element("MetadataEntry", key="HKMetadataKeyHeartRateMotionContext", value="1")
QUANTITY = "HKQuantityTypeIdentifier"
# counts in a hundred records, with the attributes of each kind
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
        write_export(path, XML_MB * MIB)
        rates, peaks = zip(*(measure_conversion(path) for _ in range(ROUNDS)), strict=True)
    what = f"converting Apple's export, an XML of {XML_MB} MiB"
    yield what, f"{max(rates):,.0f} samples/s", "60,000/s"
    yield "... peak memory of the process", f"{max(peaks):,.0f} MiB", "100 MiB or less"


def write_export(path: Path, size: int) -> None:
    """Write an XML file of about `size` bytes."""
    shapes = [
        record(startDate="{0}", endDate="{1}", creationDate="{1}", **attributes)
        for count, attributes in MIX
        for _ in range(count)
    ]
    hundred = [" " + shapes[number * 37 % len(shapes)] for number in range(len(shapes))]
    start = BEGAN
    with path.open("wb") as file:
        file.write(xml(end=""))
        while file.tell() < size:
            for shape in hundred:
                start += timedelta(seconds=7)
                begins, ends = f"{start} +0200", f"{start + timedelta(seconds=59)} +0200"
                file.write(shape.replace("{0}", begins).replace("{1}", ends).encode())
        file.write(b"</HealthData>\n")


def measure_conversion(path: Path) -> tuple[float, float]:
    """Convert in a separate process; return samples a second, and its peak memory in MiB."""
    process = subprocess.run(
        [sys.executable, "-m", "tests.bench.apple", path],
        check=True,
        capture_output=True,
        text=True,
    )
    rate, peak = process.stdout.split()
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
