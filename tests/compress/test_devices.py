import pytest

from model.compress import devices
from model.ir.errors import BadInput


def test_every_device_file_is_read() -> None:
    assert devices.known() == ["memristor", "sot_mram"]
    for name in devices.known():
        device = devices.load(name)
        assert device.title
        assert list(device.states.values) == sorted(set(device.states.values))


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(BadInput, match="expected one of memristor, sot_mram"):
        devices.load("memristors")


def test_a_bad_device_file_is_refused(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cell.toml").write_text('title = "no states"\n')
    monkeypatch.setattr(devices, "FOLDER", tmp_path)
    with pytest.raises(BadInput, match=r"device cell\."):
        devices.load("cell")
