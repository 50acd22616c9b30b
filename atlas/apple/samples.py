"""A sample as the app sends it: one JSON object a line, with the app's names.

What is absent is left out. `Raw` is JSON already: what many lines repeat is encoded once.
"""

import msgspec
from msgspec import Raw, Struct

Number = int | float


class Sample(Struct, omit_defaults=True, rename="camel", kw_only=True, gc=False):
    """What every sample has. Dates are UTC with milliseconds, uuids are upper case."""

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
    """A number with a unit. `value_text` only where no number stands."""

    quantity_type: str
    value_double: Number | None = None
    unit: str | None = None
    value_text: str | None = None
    heartbeats: list[dict[str, object]] | None = None


class Category(Sample, kw_only=True, gc=False):
    """A number of Apple's; `value_text` only where the word is not known."""

    category_type: str
    value_integer: int | None = None
    sleep_stage: str | None = None
    value_text: str | None = None
    unit: str | None = None


class Correlation(Sample, kw_only=True, gc=False):
    """Samples that belong together; they have lines of their own."""

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
    value_text: str | None = None  # how Apple classified it


class Route(Sample, kw_only=True, gc=False):
    """Where a workout went."""

    locations: list[dict[str, object]]
    route_file: str


encoder = msgspec.json.Encoder()


def encode_line(sample: Sample) -> bytes:
    return encoder.encode(sample) + b"\n"
