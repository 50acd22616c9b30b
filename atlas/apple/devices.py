"""Devices, as Apple prints them: <<HKDevice: 0x282d03020>, name:Apple Watch, hardware:Watch5,3>"""

import re
from typing import NamedTuple

import msgspec
from msgspec import Raw

# Apple's word: the app's. A date of creation came with iOS 17, and tells no two devices apart.
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
FIELD = re.compile(f", ({'|'.join(NAMES)}):")  # a comma alone may stand in a value


class AppleDevice(NamedTuple):
    """`identity` is the same in every export, whatever else Apple prints."""

    json: Raw | None
    identity: str


NO_DEVICE = AppleDevice(None, "")


def parse_device(text: str) -> AppleDevice:
    """What is printed in another way than Apple's is a device whose name it is."""
    pointer, *parts = FIELD.split(text.removesuffix(">"))
    pairs = zip(parts[::2], parts[1::2], strict=True)
    fields = {NAMES[name]: value for name, value in pairs if NAMES[name]}
    if not pointer.startswith("<<HKDevice:"):
        fields["name"] = text
    if not fields:
        return NO_DEVICE
    identity = "\x1e".join(f"{name}={value}" for name, value in sorted(fields.items()))
    return AppleDevice(Raw(msgspec.json.encode(fields)), identity)
