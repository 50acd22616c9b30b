"""Parses devices as Apple prints them: <<HKDevice: 0x282d03020>, name:Apple Watch, model:Watch>"""

import re
from typing import NamedTuple

import msgspec
from msgspec import Raw

# Apple's name: the app's name. The creation date (iOS 17) does not distinguish devices.
NAMES = {
    "name": "name",
    "manufacturer": "manufacturer",
    "model": "model",
    "hardware": "hardwareVersion",
    "firmware": "firmwareVersion",
    "software": "softwareVersion",
    "localIdentifier": "localIdentifier",
    "UDIDeviceIdentifier": "udi",
    "UDI": "udi",
    "creation date": "",
}
FIELD = re.compile(f", ({'|'.join(NAMES)}):")  # a value may contain commas


class AppleDevice(NamedTuple):
    """A device as JSON. `identity` is the same in every export; Apple's text is not."""

    json: Raw | None
    identity: str


PRINTED = "<<HKDevice:"
NO_DEVICE = AppleDevice(None, "")


def parse_device(text: str) -> AppleDevice:
    """Parse a device, with or without its pointer. Other text becomes the name of the device."""
    pointer, *parts = FIELD.split(text.removesuffix(">"))
    pairs = zip(parts[::2], parts[1::2], strict=True)
    fields = {NAMES[name]: value for name, value in pairs if NAMES[name]}
    if pointer and not pointer.startswith(PRINTED):
        fields["name"] = text
    if not fields:
        return NO_DEVICE
    identity = "\x1e".join(f"{name}={value}" for name, value in sorted(fields.items()))
    return AppleDevice(Raw(msgspec.json.encode(fields)), identity)
