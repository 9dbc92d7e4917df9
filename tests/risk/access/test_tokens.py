import os
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.errors import InputError
from risk.access.tokens import Role, Tokens, load_tokens, make_tokens_file

READER, ADMIN = "reader-0123456789", "admin-0123456789abc"


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_token_has_the_role_of_its_line(tmp_path: Path) -> None:
    text = f"# who\n\nread {READER}  # the dashboard\n  admin\t{ADMIN}\n"
    tokens = load_tokens(written(tmp_path / "tokens", text))
    reader, admin = tokens.bearer(READER.encode()), tokens.bearer(ADMIN.encode())
    assert reader is not None and admin is not None
    assert (reader.role, admin.role) == (Role.read, Role.admin)
    assert reader.name != admin.name


@given(shown=st.binary(max_size=64))
def test_nothing_but_a_token_is_one(shown: bytes) -> None:
    tokens = Tokens({READER: Role.read})
    assert (tokens.bearer(shown) is not None) == (shown == READER.encode())


@pytest.mark.parametrize("cut", [slice(1, None), slice(None, -1), slice(0, 0)])
def test_a_part_of_a_token_is_none(cut: slice) -> None:
    assert Tokens({READER: Role.read}).bearer(READER[cut].encode()) is None


def test_roles_include_those_before() -> None:
    assert Role.read < Role.allocate < Role.admin


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o604, 0o601])
def test_a_file_that_others_can_open_is_refused(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path / "tokens", f"read {READER}\n", mode)
    with pytest.raises(InputError, match="0600"):
        load_tokens(path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nobody\n",
        "read\n",
        f"read {READER} {ADMIN}\n",
        f"root {READER}\n",
        f"Read {READER}\n",
        "read short\n",
        f"read {READER}\nadmin {READER}\n",
    ],
)
def test_a_wrong_line_is_refused_without_repeating_a_token(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError) as caught:
        load_tokens(written(tmp_path / "tokens", text))
    assert READER not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "tokens", "")
    path.write_bytes(b"read \xff\xfe" + b"x" * 20)
    with pytest.raises(InputError, match="byte 5"):
        load_tokens(path)


def test_neither_a_pipe_nor_a_folder_nor_a_huge_file_is_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    huge = written(tmp_path / "huge", "")
    os.truncate(huge, 1 << 40)
    for path in (pipe, tmp_path, huge, tmp_path / "missing"):
        with pytest.raises(InputError, match=path.name):
            load_tokens(path)


def test_a_made_file_is_its_owners_alone_and_opens_as_admin(tmp_path: Path) -> None:
    path = tmp_path / "new" / "tokens"
    before = os.umask(0)
    try:
        token = make_tokens_file(path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    bearer = load_tokens(path).bearer(token.encode())
    assert bearer is not None and bearer.role is Role.admin
    assert len(token) >= 40


def test_an_existing_file_or_link_is_never_overwritten(tmp_path: Path) -> None:
    path = written(tmp_path / "tokens", f"read {READER}\n")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    for taken in (path, link):
        with pytest.raises(InputError, match=taken.name):
            make_tokens_file(taken)
    assert path.read_text() == f"read {READER}\n"
    assert not (tmp_path / "elsewhere").exists()


def test_what_travels_between_processes_holds_no_token() -> None:
    travelled = pickle.dumps(Tokens({READER: Role.read}))
    assert READER.encode() not in travelled
    bearer = pickle.loads(travelled).bearer(READER.encode())
    assert bearer is not None and bearer.role is Role.read
