import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from common.errors import ConfigError
from server.credentials import Credentials, check_credentials, create_credentials, renew_credentials

HOST = "coordinator.example.org"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    return create_credentials(tmp_path_factory.mktemp("pki"), [HOST, "192.0.2.7"])


def test_what_was_made_passes_the_check(made: Credentials) -> None:
    check_credentials(made, [HOST, "192.0.2.7", "localhost", "127.0.0.1"])


def test_openssl_accepts_the_pair(made: Credentials) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)
    assert ssl.create_default_context(cafile=made.ca).get_ca_certs()[0]["subject"]


def test_private_keys_are_private(made: Credentials) -> None:
    for path in (made.key, made.key.with_name("ca.key")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nothing_is_overwritten(made: Credentials) -> None:
    before = made.certificate.read_bytes()
    with pytest.raises(ConfigError, match=r"server\.pem exists"):
        create_credentials(made.ca.parent, [HOST])
    assert made.certificate.read_bytes() == before


def test_renewal_keeps_the_authority(tmp_path: Path) -> None:
    first = create_credentials(tmp_path, [HOST])
    authority = first.ca.read_bytes()
    first.certificate.unlink()
    first.key.unlink()
    again = create_credentials(tmp_path, [HOST, "new.example.org"])
    check_credentials(again, ["new.example.org"])
    assert again.ca.read_bytes() == authority


def test_half_an_authority_is_named(tmp_path: Path) -> None:
    made = create_credentials(tmp_path, [HOST])
    for path in (made.certificate, made.key, tmp_path / "ca.key"):
        path.unlink()
    with pytest.raises(ConfigError, match=r"ca\.pem exists but .*ca\.key does not"):
        create_credentials(tmp_path, [HOST])


def test_another_host_is_named(made: Credentials) -> None:
    with pytest.raises(ConfigError, match=r"does not name other\.example\.org"):
        check_credentials(made, ["other.example.org"])


def test_expired_and_early(made: Credentials) -> None:
    with pytest.raises(ConfigError, match=r"server\.pem expired on .*: renew it"):
        check_credentials(made, now=datetime.now(UTC) + timedelta(days=500))
    with pytest.raises(ConfigError, match="check the clock"):
        check_credentials(made, now=datetime.now(UTC) - timedelta(days=2))


def test_strangers(made: Credentials, tmp_path: Path) -> None:
    other = create_credentials(tmp_path, [HOST])
    with pytest.raises(ConfigError, match="is not the key of"):
        check_credentials(Credentials(made.ca, made.certificate, other.key))
    with pytest.raises(ConfigError, match="did not sign"):
        check_credentials(Credentials(other.ca, made.certificate, made.key))


@pytest.mark.parametrize("field", ["ca", "certificate", "key"])
def test_missing_and_damaged_files_are_named(made: Credentials, tmp_path: Path, field: str) -> None:
    files = {"ca": made.ca, "certificate": made.certificate, "key": made.key}
    files[field] = tmp_path / "absent.pem"
    with pytest.raises(ConfigError, match=r"cannot read .*absent\.pem: No such file"):
        check_credentials(Credentials(**files))
    files[field].write_text("not PEM")
    with pytest.raises(ConfigError, match=r"absent\.pem holds no PEM"):
        check_credentials(Credentials(**files))


@pytest.mark.parametrize("host", ["https://x.example.org", "x.example.org:8000", ""])
def test_a_url_is_no_host(tmp_path: Path, host: str) -> None:
    with pytest.raises(ConfigError, match="is no host name or address"):
        create_credentials(tmp_path, [host])


def test_a_certificate_is_renewed_and_hospitals_need_nothing_new(tmp_path: Path) -> None:
    files = create_credentials(tmp_path, ["fl.example.org", "10.0.0.7"], days=5)
    before = {path: path.read_bytes() for path in (files.ca, files.certificate, files.key)}
    assert renew_credentials(tmp_path, days=100) == files
    assert files.ca.read_bytes() == before[files.ca]
    assert files.key.read_bytes() != before[files.key]
    assert (tmp_path / "server.pem.old").read_bytes() == before[files.certificate]
    assert (tmp_path / "server.key.old").read_bytes() == before[files.key]
    for key in (files.key, tmp_path / "server.key.old"):
        assert key.stat().st_mode & 0o777 == 0o600
    check_credentials(files, ["fl.example.org", "10.0.0.7"], now=datetime.now(UTC) + timedelta(days=99))
    renew_credentials(tmp_path, ["other.example.org"])
    check_credentials(files, ["other.example.org"])
    with pytest.raises(ConfigError, match=r"does not name fl\.example\.org"):
        check_credentials(files, ["fl.example.org"])


def test_what_cannot_be_renewed_is_left_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        renew_credentials(tmp_path)
    files = create_credentials(tmp_path, [])
    before = files.certificate.read_bytes()
    with pytest.raises(ConfigError, match="ends in 3650 days: give --days below that"):
        renew_credentials(tmp_path, days=4000)
    (tmp_path / "ca.key").write_bytes(files.key.read_bytes())
    with pytest.raises(ConfigError, match="does not belong to"):
        renew_credentials(tmp_path)
    (tmp_path / "ca.key").unlink()
    with pytest.raises(ConfigError, match="cannot read"):
        renew_credentials(tmp_path)
    assert files.certificate.read_bytes() == before
