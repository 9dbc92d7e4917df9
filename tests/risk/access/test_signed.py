"""A signed request is its signer's, this one, now, and once: anything else is nobody's."""

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from market.errors import InputError
from risk.access import signed
from risk.access.callers import caller_of
from risk.access.errors import NotAnswered, Reason
from risk.access.signed import AHEAD_MS, OLDEST_MS, Asked, Signatures, SigningKey
from risk.access.tokens import Role, Tokens, load_tokens, token_of

NOW = 1_800_000_000_000
KILL = Asked("POST", b"gateway:8020", b"/v1/kill?a=b")
BODY = b'{"reason":"now"}'


def made(path: Path) -> SigningKey:
    """Make a key as a person does."""
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", path], check=True)
    path.chmod(0o600)
    return SigningKey(path)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    return made(tmp_path_factory.mktemp("keys") / "key.pem")


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Set the clock of this module's service, ms."""

    def set_to(now: int) -> None:
        monkeypatch.setattr(signed, "_now_ms", lambda: now)

    set_to(NOW - 60_000)
    return set_to


@pytest.fixture
def signatures(key: SigningKey, at: Callable[[int], None]) -> Signatures:
    """Return what a service that has run for a minute takes."""
    found = Signatures(Tokens({key.line: Role.allocate}))
    at(NOW)
    return found


def refused(signatures: Signatures, header: str | bytes, asked: Asked = KILL) -> str:
    with pytest.raises(NotAnswered) as caught:
        signatures.signed(header if isinstance(header, bytes) else header.encode(), asked)
    assert caught.value.reason is Reason.unauthenticated
    return caught.value.detail


def test_who_signs_is_known_and_the_body_is_theirs(signatures: Signatures, key: SigningKey) -> None:
    found = signatures.signed(key.header(KILL, BODY).encode(), KILL)
    assert found.bearer.role is Role.allocate
    found.require(BODY)
    for other in (b"", BODY + b" ", BODY[:-1], BODY.replace(b"now", b"not")):
        with pytest.raises(NotAnswered) as caught:
            found.require(other)
        assert caught.value.reason is Reason.unauthenticated


def test_a_request_is_taken_once(signatures: Signatures, key: SigningKey) -> None:
    header = key.header(KILL, BODY)
    signatures.signed(header.encode(), KILL)
    assert "before" in refused(signatures, header)
    signatures.signed(key.header(KILL, BODY).encode(), KILL)


@pytest.mark.parametrize(
    "other",
    [
        Asked("GET", KILL.host, KILL.target),
        Asked("post", KILL.host, KILL.target),
        Asked("POST", b"gateway:8021", KILL.target),
        Asked("POST", b"", KILL.target),
        Asked("POST", KILL.host, b"/v1/arm?a=b"),
        Asked("POST", KILL.host, b"/v1/kill"),
        Asked("POST", KILL.host, b"/v1/kill?a=c"),
    ],
    ids=str,
)
def test_a_signature_is_of_one_request_only(
    signatures: Signatures, key: SigningKey, other: Asked
) -> None:
    header = key.header(KILL, BODY)
    assert "not one of this request" in refused(signatures, header, other)
    signatures.signed(header.encode(), KILL)  # what was refused used nothing up


@pytest.mark.parametrize(
    ("age", "taken"),
    [
        (0, True),
        (OLDEST_MS, True),
        (OLDEST_MS + 1, False),
        (-AHEAD_MS, True),
        (-AHEAD_MS - 1, False),
        (10**9, False),
        (-(10**9), False),
    ],
)
def test_a_signature_lives_for_half_a_minute(
    signatures: Signatures, key: SigningKey, age: int, taken: bool
) -> None:
    header = key.header(KILL, BODY, NOW - age)
    if taken:
        assert signatures.signed(header.encode(), KILL).bearer.role is Role.allocate
    else:
        assert "clocks" in refused(signatures, header) or age > 60_000


@pytest.mark.parametrize("ahead", [0, AHEAD_MS])
def test_no_restart_makes_a_used_one_new(
    key: SigningKey, at: Callable[[int], None], ahead: int
) -> None:
    tokens = Tokens({key.line: Role.admin})
    before = Signatures(tokens)
    at(NOW)
    header = key.header(KILL, BODY, NOW + ahead)
    before.signed(header.encode(), KILL)
    at(NOW + 1)
    after = Signatures(tokens)
    for later in (1, ahead, OLDEST_MS):
        at(NOW + 1 + later)
        refused(after, header)
    at(NOW + 1 + AHEAD_MS)
    after.signed(key.header(KILL, BODY).encode(), KILL)


def test_what_was_used_is_forgotten_only_when_it_is_too_old(
    signatures: Signatures, key: SigningKey, at: Callable[[int], None]
) -> None:
    headers = [key.header(KILL, BODY, NOW + step) for step in range(0, 120_000, 3000)]
    for step, header in zip(range(0, 120_000, 3000), headers, strict=True):
        at(NOW + step)
        signatures.signed(header.encode(), KILL)
        for old in headers[: step // 3000 + 1]:
            refused(signatures, old)
    assert len(signatures._used) <= 2 * OLDEST_MS // 3000 + 2


def test_another_key_is_nobodys(signatures: Signatures, tmp_path: Path) -> None:
    stranger = made(tmp_path / "key.pem")
    assert "no such key" in refused(signatures, stranger.header(KILL, BODY))


def test_a_strangers_signature_under_a_known_name_is_refused(
    signatures: Signatures, key: SigningKey, tmp_path: Path
) -> None:
    stranger = made(tmp_path / "key.pem").header(KILL, BODY)
    name = hashlib.sha256(key.public).hexdigest()[:12]
    forged = stranger.replace(stranger[len("Tercet key=") :][:12], name)
    assert "not one of this request" in refused(signatures, forged)


@given(place=st.floats(0.0, 1.0, exclude_max=True), to=st.characters(max_codepoint=127))
def test_a_header_with_one_other_character_is_refused(
    key: SigningKey, place: float, to: str
) -> None:
    signatures = Signatures(Tokens({key.line: Role.allocate}))
    signatures._since = 0
    header = key.header(KILL, BODY)
    where = int(place * len(header))
    changed = header[:where] + to + header[where + 1 :]
    if changed.lower()[:6] == header.lower()[:6] and changed[6:] == header[6:]:
        return
    refused(signatures, changed)
    signatures.signed(header.encode(), KILL)


@given(text=st.binary(max_size=400))
def test_no_other_text_is_a_signature(key: SigningKey, text: bytes) -> None:
    refused(Signatures(Tokens({key.line: Role.admin})), b"Tercet " + text)


def test_a_public_key_is_no_token(key: SigningKey, tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"admin {key.line}\nread {'r' * 16}\n")
    path.chmod(0o600)
    tokens = load_tokens(path)
    for shown in (key.line, key.public.hex(), key.public):
        assert tokens.bearer(shown if isinstance(shown, bytes) else shown.encode()) is None
    name = hashlib.sha256(key.public).hexdigest()[:12]
    found = tokens.key(name)
    assert found is not None and found[0].role is Role.admin
    with pytest.raises(InputError, match="no token of the role admin"):
        token_of(path, Role.admin)


@pytest.mark.parametrize("digits", ["", "ab", "A" * 64, "g" * 64, "a" * 63, "a" * 65])
def test_a_public_key_of_another_form_is_refused(tmp_path: Path, digits: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"admin ed25519:{digits}{' ' * 16}\n")
    path.chmod(0o600)
    with pytest.raises(InputError, match="line 1"):
        load_tokens(path)


@pytest.mark.parametrize("spoilt", ["missing", "open", "no key", "another kind", "encrypted"])
def test_a_private_key_that_cannot_be_used_is_named(tmp_path: Path, spoilt: str) -> None:
    path = tmp_path / "key.pem"
    words: dict[str, list[str]] = {
        "another kind": ["-algorithm", "x25519"],
        "encrypted": ["-algorithm", "ed25519", "-aes256", "-pass", "pass:word"],
    }
    if spoilt == "no key":
        path.write_text("no key")
    elif spoilt != "missing":
        more = words.get(spoilt, ["-algorithm", "ed25519"])
        subprocess.run(["openssl", "genpkey", *more, "-out", path], check=True)
    if path.exists():
        path.chmod(0o644 if spoilt == "open" else 0o600)
    with pytest.raises(InputError, match=r"key\.pem"):
        SigningKey(path)


def test_the_client_signs_what_it_sends(signatures: Signatures, key: SigningKey) -> None:
    sent = requests.Request(
        "POST", "http://gateway:8020/v1/kill", params={"a": "b"}, json={"reason": "now"}, auth=key
    ).prepare()
    assert sent.headers["Host"] == "gateway:8020" and isinstance(sent.body, bytes)
    header: Any = sent.headers["Authorization"]
    signatures.signed(header.encode(), KILL).require(sent.body)


def test_no_number_is_used_twice_by_a_client(key: SigningKey) -> None:
    found = {key.header(KILL, BODY, NOW).partition("nonce=")[2][:32] for _ in range(1000)}
    assert len(found) == 1000


def test_a_caller_signs_where_its_file_holds_a_key_and_shows_a_token_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "netrc").write_text("machine gateway login somebody password else\n")
    key = made(tmp_path / "key.pem")
    tokens = tmp_path / "tokens"
    tokens.write_text(f"read {'r' * 16}\nallocate {'a' * 16}\nadmin {key.line}\n")
    tokens.chmod(0o600)

    def shown(path: Path) -> str:
        with requests.Session() as session:
            asked = requests.Request("GET", "http://gateway/", auth=caller_of(path, Role.allocate))
            return str(session.prepare_request(asked).headers["Authorization"])

    assert shown(tokens) == f"Bearer {'a' * 16}"
    assert shown(tmp_path / "key.pem").startswith("Tercet key=")
    (tmp_path / "key.pem").chmod(0o640)
    for path in (tmp_path / "key.pem", tmp_path / "missing", tmp_path):
        with pytest.raises(InputError, match=path.name):
            caller_of(path, Role.allocate)


def test_openssl_shows_the_line_of_a_key(tmp_path: Path) -> None:
    """As docs/operations.md says it: the last 32 bytes of the public key."""
    key = made(tmp_path / "key.pem")
    words = "openssl pkey -in key.pem -pubout -outform DER | tail -c 32 | od -An -tx1 -v"
    shown = subprocess.run(
        words, shell=True, cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert key.line == "ed25519:" + "".join(shown.stdout.split())
