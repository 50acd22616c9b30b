"""Samples as the app sends them: one JSON object a line, with the app's names.

Absent fields are left out. `Raw` is encoded JSON: parts that many lines share are encoded once.
"""

import msgspec
from msgspec import Raw, Struct

Number = int | float


class Sample(Struct, omit_defaults=True, rename="camel", kw_only=True, gc=False):
    """The fields of every sample. Dates are UTC with milliseconds, uuids are in upper case."""

    sample_type: str
    sample_class: str
    data_type: str
    uuid: str
    start_date: str
    end_date: str
    source_name: str | None = None
    source_version: str | None = None
    device: Raw | None = None
    metadata: dict[str, object] | None = None
    user_provided_flag: bool | None = None


class Quantity(Sample, kw_only=True, gc=False):
    """A number with a unit, or `value_text` if the value is not a number."""

    quantity_type: str
    value_double: Number | None = None
    unit: str | None = None
    value_text: str | None = None
    heartbeats: list[dict[str, object]] | None = None


class Category(Sample, kw_only=True, gc=False):
    """One of Apple's enumerated values, or `value_text` if its label is unknown."""

    category_type: str
    value_integer: int | None = None
    sleep_stage: str | None = None
    value_text: str | None = None
    unit: str | None = None


class Correlation(Sample, kw_only=True, gc=False):
    """Samples that belong together. Each of them also has its own line."""

    correlation_type: str
    child_sample_uuids: list[str] = msgspec.field(name="childSampleUUIDs")


class Workout(Sample, kw_only=True, gc=False):
    """Totals in seconds, kilocalories and metres; `statistics` as Apple wrote them."""

    activity_type: str
    workout_event_count: int
    duration_seconds: float | None = None
    active_energy_kilocalories: float | None = None
    total_energy_kilocalories: float | None = None
    total_distance_meters: float | None = None
    statistics: list[dict[str, object]] | None = None
    route_files: list[str] | None = None


class Electrocardiogram(Sample, kw_only=True, gc=False):
    """Voltages in microvolts, evenly spaced."""

    voltages: list[Number]
    unit: str = "µV"
    sampling_frequency_hertz: Number | None = None
    value_text: str | None = None  # Apple's classification


class Route(Sample, kw_only=True, gc=False):
    """The positions of a workout, or a part of them."""

    locations: list[dict[str, object]]
    route_file: str


class SampleDeletion(Struct, gc=False):
    """The line that the app sends for a deleted sample."""

    uuid: str


encoder = msgspec.json.Encoder()


def encode_line(sample: Sample | SampleDeletion) -> bytes:
    return encoder.encode(sample) + b"\n"
