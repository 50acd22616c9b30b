"""Opening an export: zip, folder or XML, and the archives that are rejected."""

import struct
import zipfile

import pytest

from atlas.apple import Unreadable, open_export
from atlas.apple.zip_members import RATIO_MAX
from tests.apple.exports import an_export, beats, read_lines, record, write_zip, xml

GOOD = xml(record())
LARGE = xml(*beats(20))
CDA = b"<ClinicalDocument>" + b" " * 100_000 + b"</ClinicalDocument>"
ECG = b"Recorded Date,2026-03-14 09:15:00 -0400\nClassification,Sinus Rhythm\n\n1.5\n"


def read_refusal(path) -> str:
    """Return the error message of an unreadable export, which must be one line."""
    with pytest.raises(Unreadable) as why, open_export(path) as export:
        list(export.xml.chunks())
    assert "\n" not in str(why.value)
    return str(why.value)


@pytest.mark.parametrize("name", ["export.xml", "Exportieren.xml", "导出.xml", "EXPORT.XML"])
def test_the_xml_has_a_name_of_the_phones_language(tmp_path, name):
    path = write_zip(tmp_path / "export.zip", {f"apple_health_export/{name}": GOOD})

    assert len(read_lines(path)[0]) == 1


def test_the_largest_xml_wins_but_never_that_for_clinics(tmp_path):
    files = {"a/export_cda.xml": CDA, "a/another.xml": GOOD, "a/export.xml": LARGE}

    assert len(read_lines(write_zip(tmp_path / "export.zip", files))[0]) == 20


def test_what_macos_adds_is_no_part_of_it(tmp_path):
    files = {"__MACOSX/export.xml": LARGE, "a/._export.xml": LARGE, "a/export.xml": GOOD}

    lines, conversion = read_lines(write_zip(tmp_path / "export.zip", files))
    assert (len(lines), conversion.skipped.total()) == (1, 0)


def test_a_zip_that_windows_made_has_its_own_slashes(tmp_path):
    path = write_zip(tmp_path / "export.zip", {"apple_health_export\\export.xml": GOOD})

    assert len(read_lines(path)[0]) == 1


def test_the_folder_of_a_zip_that_was_unpacked_is_as_good(tmp_path):
    folder = tmp_path / "apple_health_export"
    (folder / "electrocardiograms").mkdir(parents=True)
    (folder / "export.xml").write_bytes(LARGE)
    (folder / "export_cda.xml").write_bytes(CDA)
    (folder / "electrocardiograms" / "ecg.csv").write_bytes(ECG)

    assert len(read_lines(folder, with_ecgs=True)[0]) == 21


def test_the_xml_alone_is_as_good(tmp_path):
    (tmp_path / "export.xml").write_bytes(LARGE)
    (tmp_path / "of_another_kind.csv").write_bytes(ECG)

    assert len(read_lines(tmp_path / "export.xml", with_ecgs=True)[0]) == 20


def test_a_zip_is_a_zip_whatever_its_name(tmp_path):
    path = an_export(tmp_path / "export.xml", *beats(20))

    assert len(read_lines(path)[0]) == 20


def test_a_zip_with_the_sizes_of_large_ones_is_as_good(tmp_path):
    with (
        zipfile.ZipFile(tmp_path / "export.zip", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("apple_health_export/export.xml", "w", force_zip64=True) as file,
    ):
        file.write(LARGE)

    assert len(read_lines(tmp_path / "export.zip")[0]) == 20


# rejected archives


def test_an_xml_that_would_swell_a_thousand_times_is_refused(tmp_path):
    bomb = GOOD + b" " * 10_000_000
    path = write_zip(tmp_path / "export.zip", {"export.xml": bomb})

    assert path.stat().st_size * 900 < len(bomb)
    assert "swell" in read_refusal(path)


def test_an_export_that_is_packed_as_phones_do_is_not(tmp_path):
    dense = xml(*beats(5_000))
    path = write_zip(tmp_path / "export.zip", {"export.xml": dense})

    assert len(dense) > 20 * path.stat().st_size
    assert len(dense) < RATIO_MAX * path.stat().st_size
    assert len(read_lines(path)[0]) == 5_000


def test_a_bomb_beside_the_xml_costs_nothing_but_itself(tmp_path):
    path = an_export(tmp_path / "e.zip", record(), bomb_csv=b"1\n" * 5_000_000, good_csv=ECG)

    lines, conversion = read_lines(path, with_ecgs=True)
    assert len(lines) == 2
    ((reason, count),) = conversion.skipped.items()
    assert (count, "swell" in reason) == (1, True)


@pytest.mark.parametrize(
    "name", ["../evil.xml", "/etc/evil.xml", "a/../../evil.xml", "C:/evil.xml", "..\\evil.xml"]
)
def test_a_path_that_leads_out_is_passed_over_and_told(tmp_path, name):
    path = write_zip(tmp_path / "export.zip", {name: LARGE, "a/export.xml": GOOD})

    lines, conversion = read_lines(path)
    assert len(lines) == 1
    assert dict(conversion.skipped) == {"has a path that leads out of the zip": 1}
    alone = write_zip(tmp_path / "alone.zip", {name: LARGE})
    assert "leads out of the zip" in read_refusal(alone)


@pytest.mark.parametrize(
    "files",
    [{}, {"a/readme.txt": b"hello"}, {"a/export_cda.xml": CDA}],
    ids=["empty", "text", "cda"],
)
def test_a_zip_without_an_xml_says_so(tmp_path, files):
    assert "There is no XML" in read_refusal(write_zip(tmp_path / "export.zip", files))


def set_flags(data: bytes, bits: int) -> bytes:
    """Return a copy of a zip with the general purpose flags of its first file set to `bits`."""
    with_bits = bytearray(data)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(signature)
        struct.pack_into("<H", with_bits, at + offset, bits)
    return bytes(with_bits)


def test_an_encrypted_zip_says_what_to_do(tmp_path):
    path = write_zip(tmp_path / "export.zip", {"export.xml": GOOD})
    path.write_bytes(set_flags(path.read_bytes(), 0x1))

    said = read_refusal(path)
    assert "encrypted" in said
    assert "unpack it" in said


def test_a_compression_that_may_take_any_memory_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "export.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("export.xml", GOOD)

    assert "compressed in a way" in read_refusal(tmp_path / "export.zip")


def test_files_that_lie_in_each_other_are_refused(tmp_path):
    path = write_zip(tmp_path / "export.zip", {"export.xml": GOOD})
    data = bytearray(path.read_bytes())
    struct.pack_into("<L", data, data.find(b"PK\x01\x02") + 20, 50_000_000)
    path.write_bytes(data)

    assert "overlap" in read_refusal(path)


@pytest.mark.parametrize("keep", [4, 100, 300], ids=lambda keep: f"{keep} bytes of it")
def test_a_zip_that_is_cut_short_says_so(tmp_path, keep):
    path = write_zip(tmp_path / "export.zip", {"export.xml": LARGE})
    path.write_bytes(path.read_bytes()[:keep])

    assert "truncated" in read_refusal(path)


@pytest.mark.parametrize("header", [b"PK\x03\x04", b"PK\x01\x02"], ids=["its own", "the list"])
def test_a_name_that_is_damaged_is_a_damaged_zip(tmp_path, header):
    path = write_zip(tmp_path / "export.zip", {"导出.xml": GOOD})
    data = bytearray(path.read_bytes())
    data[data.find("导".encode(), data.find(header))] = 0xFF
    path.write_bytes(data)

    assert "damaged" in read_refusal(path)


def test_a_file_without_a_name_is_passed_over(tmp_path):
    path = write_zip(tmp_path / "export.zip", {"export.xml": GOOD, "x": b""})
    data = path.read_bytes()
    at = data.rfind(b"PK\x01\x02")
    size = struct.pack("<H", 0)  # the length of the name, which becomes a comment
    comment = struct.pack("<H", 1)
    path.write_bytes(data[: at + 28] + size + data[at + 30 : at + 32] + comment + data[at + 34 :])

    assert len(read_lines(path)[0]) == 1


def test_of_a_zip_that_is_damaged_inside_all_is_read_that_can_be(tmp_path):
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w") as archive:  # not compressed, so that one flipped bit stays one
        archive.writestr("export.xml", xml(*beats(2_000)))
    data = bytearray(path.read_bytes())
    data[data.rfind(b"</HealthData>")] ^= 1
    path.write_bytes(data)

    lines, conversion = read_lines(path)
    assert len(lines) >= 1_500
    assert "damaged" in conversion.error


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param(b"\x89PNG\r\n\x1a\n", "neither a zip nor XML", id="a picture"),
        pytest.param(b"", "neither a zip nor XML", id="nothing"),
        pytest.param(CDA, "not a Health export", id="another XML"),
    ],
)
def test_a_file_of_another_kind_says_what_was_expected(tmp_path, data, said):
    (tmp_path / "file").write_bytes(data)

    lines, conversion = read_lines(tmp_path / "file")
    assert (lines, said in conversion.error) == ([], True)


def test_an_xml_that_is_cut_short_says_so_behind_all_that_is_there(tmp_path):
    (tmp_path / "export.xml").write_bytes(LARGE[:-200])

    lines, conversion = read_lines(tmp_path / "export.xml")
    assert len(lines) == 19
    assert "ends in the middle" in conversion.error
