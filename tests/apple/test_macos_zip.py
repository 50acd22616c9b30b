"""Zips as macOS writes them: names without the flag of UTF-8, and sizes beyond 4 GiB in 32 bits."""

import io
import struct
import zipfile
import zlib
from pathlib import Path
from unicodedata import normalize

import pytest

from atlas.apple import Unreadable, open_export
from atlas.apple.zip_members import RATIO_MAX, WRAP, UnsizedMember, decode_name
from tests.apple.exports import beats, element, gpx, read_lines, record, write_zip, xml

ROUTE = "route_2024-05-01_3.05\u202fPM_é.gpx"
UTF_8 = 0x800
MIB = 1024 * 1024


def a_workout_with_route(name: str = ROUTE) -> str:
    reference = element("FileReference", path=f"/workout-routes/{name}")
    return element(
        "Workout",
        element("WorkoutRoute", reference),
        workoutActivityType="HKWorkoutActivityTypeRunning",
    )


def clear_utf_8_flags(path: Path) -> None:
    """Clear the flag that names are UTF-8, as in a zip of macOS; the names stay."""
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(signature)
        while at >= 0:
            (flags,) = struct.unpack_from("<H", data, at + offset)
            struct.pack_into("<H", data, at + offset, flags & ~UTF_8)
            at = data.find(signature, at + 1)
    path.write_bytes(data)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("has_flag", [True, False], ids=["flag", "no flag"])
def test_a_route_has_the_name_that_its_workout_gives(tmp_path, form, has_flag):
    files = {
        "apple_health_export/导出.xml": xml(a_workout_with_route()),
        normalize(form, f"apple_health_export/workout-routes/{ROUTE}"): gpx(2),
    }
    path = write_zip(tmp_path / "export.zip", files)
    if not has_flag:
        clear_utf_8_flags(path)
        assert any("é" not in info.filename for info in zipfile.ZipFile(path).infolist())

    (workout, route), conversion = read_lines(path, with_routes=True)
    assert workout["routeFiles"] == [route["routeFile"]] == [ROUTE]
    assert not conversion.skipped


def test_a_route_in_a_folder_has_that_name_too(tmp_path):
    (tmp_path / "export.xml").write_bytes(xml(a_workout_with_route(normalize("NFD", ROUTE))))
    (tmp_path / normalize("NFD", ROUTE)).write_bytes(gpx(2))

    (workout, route), _ = read_lines(tmp_path, with_routes=True)
    assert workout["routeFiles"] == [route["routeFile"]] == [ROUTE]


def test_a_name_of_another_old_system_stays_as_it_is():
    info = zipfile.ZipInfo("export.xml")
    info.orig_filename = b"export\x81\x9a.xml".decode("cp437")

    assert decode_name(info) == "exportüÜ.xml"


@pytest.mark.parametrize("name", ["../é.xml", "a/../../é.xml", "/é.xml", "..\\é.xml"])
def test_a_path_that_leads_out_is_one_without_the_flag_too(tmp_path, name):
    path = write_zip(tmp_path / "export.zip", {name: xml(*beats(20)), "export.xml": xml(record())})
    clear_utf_8_flags(path)

    lines, conversion = read_lines(path)
    assert len(lines) == 1
    assert dict(conversion.skipped) == {"has a path that leads out of the zip": 1}


# beyond 4 GiB


def list_parts(name: str, stream: bytes, crc: int, size: int) -> tuple[bytes, bytes]:
    """Return the local record of a deflated file at a multiple of 4 GiB, and its entry."""
    fields = struct.pack(
        "<HHHHHLLLHH", 20, 0, zipfile.ZIP_DEFLATED, 0, 33, crc, len(stream) % WRAP, size % WRAP,
        len(name), 0,
    )  # fmt: skip
    entry = b"PK\x01\x02" + struct.pack("<H", 20) + fields + bytes(14) + name.encode()
    return b"PK\x03\x04" + fields + name.encode() + stream, entry


def write_end(file, entries: list[bytes]) -> None:
    at, directory = file.tell() % WRAP, b"".join(entries)
    count = len(entries)
    end = struct.pack("<HHHHLLH", 0, 0, count, count, len(directory), at, 0)
    file.write(directory + b"PK\x05\x06" + end)


def deflate(data: bytes, ending: int = zlib.Z_FINISH) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush(ending)


def test_a_zip_beyond_4_gib_has_its_files_before_and_behind(tmp_path):
    """The hole in it takes no room on the disk."""
    route, export = gpx(2), xml(a_workout_with_route("r.gpx"), *beats(20))
    with (tmp_path / "export.zip").open("wb") as file:
        first, first_entry = list_parts("r.gpx", deflate(route), zlib.crc32(route), len(route))
        file.write(first)
        file.seek(WRAP)
        second, second_entry = list_parts(
            "export.xml", deflate(export), zlib.crc32(export), len(export)
        )
        file.write(second)
        write_end(file, [first_entry, second_entry])

    lines, conversion = read_lines(tmp_path / "export.zip", with_routes=True)
    assert len(lines) == 22
    assert conversion.error is None
    assert not conversion.skipped


def write_large_export(path: Path, *, lost_bytes: int = 0, mib: int = 4_097) -> int:
    """Write a zip with an XML of more than 4 GiB, and return the size of that."""
    noise = zlib.compress(
        b"".join(zlib.crc32(bytes([n % 256, n >> 8])).to_bytes(4) for n in range(1_500))
    )
    chunk = (noise.hex().encode() + b" " * MIB)[:MIB]
    begin, end = xml(record(), end=""), b"".join([record().encode(), b"</HealthData>"])
    block, crc = deflate(chunk, zlib.Z_FULL_FLUSH), zlib.crc32(begin)
    for _ in range(mib):
        crc = zlib.crc32(chunk, crc)
    size = len(begin) + mib * MIB + len(end)
    stream = deflate(begin, zlib.Z_FULL_FLUSH) + block * mib + deflate(end)
    data, entry = list_parts("export.xml", stream, zlib.crc32(end, crc), size - lost_bytes)
    with path.open("wb") as file:
        file.write(data)
        write_end(file, [entry])
    assert size < RATIO_MAX * len(stream)
    return size


@pytest.mark.slow
def test_an_xml_beyond_4_gib_is_read_to_its_end(tmp_path):
    size = write_large_export(tmp_path / "export.zip")

    with open_export(tmp_path / "export.zip") as export:
        assert size > WRAP
        assert export.xml.size == size
        count, last = 0, b""
        for chunk in export.xml.chunks():
            count, last = count + len(chunk), chunk
    assert count == size
    assert last.endswith(b"</HealthData>")


@pytest.mark.slow
def test_an_xml_beyond_4_gib_of_another_size_than_it_says_is_damaged(tmp_path):
    write_large_export(tmp_path / "export.zip", lost_bytes=1)

    with (
        open_export(tmp_path / "export.zip") as export,
        pytest.raises(Unreadable, match="damaged"),
    ):
        for _ in export.xml.chunks():
            pass


def read_all(data: bytes, declared: int, bytes_max: int) -> bytes:
    with UnsizedMember(io.BytesIO(data), declared, bytes_max) as file:
        return b"".join(iter(lambda: file.read(100), b""))


def test_of_a_size_the_lower_32_bits_are_checked():
    assert read_all(b"a" * 1_000, 1_000, 2_000) == read_all(b"a" * 1_000, 1_000 + WRAP, 2_000)
    with pytest.raises(zipfile.BadZipFile):
        read_all(b"a" * 1_000, 999, 2_000)


def test_a_bomb_that_lies_about_its_size_is_refused_while_it_is_read():
    with pytest.raises(Unreadable, match="swell"):
        read_all(b"a" * 1_000, 1_000, 500)


def test_a_file_that_is_not_where_the_list_says_is_a_damaged_zip(tmp_path):
    export = xml(*beats(3))
    data, entry = list_parts("export.xml", deflate(export), zlib.crc32(export), len(export))
    with (tmp_path / "export.zip").open("wb") as file:
        file.write(b"PK\x03\x04")  # it begins as a zip
        file.seek(WRAP)
        file.write(data.replace(b"export.xml", b"Export.xml"))
        write_end(file, [entry])

    lines, conversion = read_lines(tmp_path / "export.zip")
    assert (lines, "damaged" in conversion.error) == ([], True)
