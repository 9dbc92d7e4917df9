"""Which artefact serves: champion, challenger and previous one.

The registry is a folder: `registry.sqlite` with the roles, and a copy of every artefact under its
sha256, so that a run can be deleted and its artefact still be rolled back to. Nothing is ever
deleted. Importing this needs no torch; letting an artefact in does.
"""

from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path

from agents.manifest import MANIFEST, Contents, Manifest, read_verified
from agents.policies import ArtefactPolicy, ChampionPolicy
from agents.role_log import Admission, Event, RoleLog, now
from agents.roles import SHORT, Roles, challenged, crowned, retired
from agents.signature import MOST_BYTES, SIGNATURE, signed
from agents.untrusted import read_plain
from agents.whole_files import write_file, write_folder
from market.errors import InputError

DATABASE = "registry.sqlite"
MOST_REASON = 500  # characters


@dataclass(frozen=True, slots=True)
class Entry:
    """An artefact that was let in.

    Args:
        sha256: its identity.
        folder: the registry's copy of it.
        added: ISO UTC time.
        agents: names of its mandates.
        universe: number of symbols that it was trained on.
        code_version: of the program that trained it.
    """

    sha256: str
    folder: Path
    added: str
    agents: tuple[str, ...]
    universe: int
    code_version: str

    def contents(self, public_key: Path | None = None) -> Contents:
        """Return the bytes of the registry's copy.

        Args:
            public_key: PEM file of who must have signed it; None does not ask.

        Raises:
            InputError: if the copy is damaged, not signed, or another artefact.
        """
        contents = read_verified(self.folder, public_key)
        if contents.sha256 != self.sha256:
            raise InputError(f"{self.folder} holds another artefact, {contents.sha256[:SHORT]}")
        return contents


@dataclass(frozen=True, slots=True)
class State:
    """All roles at one moment.

    Args:
        revision: of the last change; 0 before the first.
        champion: answers every account that the challenger does not.
        previous: what a rollback brings back.
        challenger: answers a share of the accounts, or runs in shadow.
        share: in [0, 1], of the accounts; 0 is shadow, or no challenger.
    """

    revision: int
    champion: Entry | None
    previous: Entry | None
    challenger: Entry | None
    share: float


class Registry:
    """The artefacts that may serve, for any number of processes at once.

    Every method raises `InputError` where the folder or its database cannot be used.

    Args:
        folder: made at the first promotion.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._log = RoleLog(folder / DATABASE)

    def promote(
        self,
        folder: Path,
        reason: str,
        public_key: Path | None = None,
        private_key: Path | None = None,
    ) -> Entry:
        """Make an artefact the champion; the champion so far becomes the previous one.

        A challenger that is promoted is no challenger any more.

        Args:
            folder: of the artefact, which is copied.
            reason: why, 1 to 500 characters on one line.
            public_key: PEM file of who must have signed the artefact; None does not ask.
            private_key: PEM file to sign the registry's copy with; None leaves it as it is.

        Raises:
            InputError: if the artefact is refused, or is the champion already.
        """
        return self._bring("promote", folder, reason, crowned, public_key, private_key)

    def challenge(
        self,
        folder: Path,
        reason: str,
        share: float,
        public_key: Path | None = None,
        private_key: Path | None = None,
    ) -> Entry:
        """Make an artefact the challenger, or change the challenger's share.

        Args:
            folder: as in `promote`, like the other arguments.
            reason: why.
            share: in [0, 1], of the accounts that it answers; at 0 it runs in shadow: recorded,
                never served.
            public_key: who must have signed it.
            private_key: to sign it with.

        Raises:
            InputError: if the artefact is refused, is the champion, or nothing would change.
        """

        def change(roles: Roles, sha256: str) -> Roles:
            return challenged(roles, sha256, share)

        return self._bring("challenge", folder, reason, change, public_key, private_key)

    def retire(self, reason: str) -> None:
        """Have no challenger any more.

        Raises:
            InputError: if there is none.
        """
        reason = _checked_reason(reason)
        retired(self._log.snapshot().roles)  # refused before anything is made
        self._log.append("retire", reason, retired)

    def rollback(self, reason: str, public_key: Path | None = None) -> Entry:
        """Make the previous artefact the champion again, and the champion the previous one.

        Args:
            reason: why.
            public_key: PEM file of who must have signed it; None does not ask.

        Raises:
            InputError: if there is no previous one, or the registry's copy of it is refused.
        """
        reason = _checked_reason(reason)
        previous = self.previous()
        if previous is None:
            raise InputError(f"{self.folder} has no previous champion to roll back to")
        admit(previous.contents(public_key), str(previous.folder))

        def change(roles: Roles) -> Roles:
            if roles.previous != previous.sha256:
                raise InputError(
                    f"{self.folder} was changed by another command; look and try again"
                )
            return crowned(roles, previous.sha256)

        self._log.append("rollback", reason, change)
        return previous

    def champion(self) -> Entry | None:
        """Return the artefact that serves."""
        return self.state().champion

    def challenger(self) -> Entry | None:
        """Return the artefact that is tried."""
        return self.state().challenger

    def previous(self) -> Entry | None:
        """Return the artefact that a rollback brings back."""
        return self.state().previous

    def state(self) -> State:
        """Return all roles by one consistent read, cheap enough for every second."""
        found = self._log.snapshot()
        known = {sha256: self._entry(one) for sha256, one in found.admitted.items()}
        champion, previous, challenger = (
            None if sha256 is None else known[sha256]
            for sha256 in (found.roles.champion, found.roles.previous, found.roles.challenger)
        )
        return State(found.revision, champion, previous, challenger, found.roles.share)

    def history(self) -> list[Event]:
        """Return every change, the first one first."""
        return self._log.events()

    def artefacts(self) -> list[Entry]:
        """Return every artefact that ever had a role, in the order of their admission."""
        return [self._entry(one) for one in self._log.snapshot().admitted.values()]

    def _entry(self, one: Admission) -> Entry:
        sha256, added, agents, universe, code_version = astuple(one)
        return Entry(
            sha256, self.folder / sha256, added, tuple(agents.split(",")), universe, code_version
        )

    def _bring(
        self,
        action: str,
        folder: Path,
        reason: str,
        change: Callable[[Roles, str], Roles],
        public_key: Path | None,
        private_key: Path | None,
    ) -> Entry:
        """Let an artefact in, copy it, and give it a role."""
        reason = _checked_reason(reason)
        _require_artefact(folder)
        contents = read_verified(folder, public_key)
        manifest = admit(contents, str(folder))
        sha256 = contents.sha256
        change(self._log.snapshot().roles, sha256)  # refused before anything is written
        self._copy(folder, contents, public_key, private_key)
        admission = Admission(
            sha256=sha256,
            added=now(),
            agents=",".join(mandate.name for mandate in manifest.mandates),
            universe=len(manifest.universe),
            code_version=manifest.code_version,
        )
        self._log.append(action, reason, lambda roles: change(roles, sha256), admission)
        return self._entry(self._log.snapshot().admitted[sha256])

    def _copy(
        self, folder: Path, contents: Contents, public_key: Path | None, private_key: Path | None
    ) -> None:
        """Store an artefact with its signature, and see that the copy is as good."""
        copy = self.folder / contents.sha256
        signature = None
        if private_key is not None:
            signature = signed(contents.sha256, private_key)
        elif (folder / SIGNATURE).exists() and (public_key or not (copy / SIGNATURE).exists()):
            signature = read_plain(folder / SIGNATURE, MOST_BYTES)
        try:
            _store(copy, contents)
            if signature is not None:
                write_file(copy / SIGNATURE, signature)
        except OSError as error:
            raise InputError(f"{copy} cannot be written: {error.strerror}") from error
        read_verified(copy, public_key if private_key is None else None)


def admit(contents: Contents, origin: str) -> Manifest:
    """Let an artefact in, or refuse it: the one door that everything passes before it serves.

    Raises:
        InputError: if its policies cannot be loaded.
    """
    from agents.artefact import parse  # needs torch, which a reader of the roles does not

    return parse(contents, origin).manifest


def artefact_of(policy: ArtefactPolicy | ChampionPolicy) -> Path:
    """Return the folder of the artefact that a policy stands for.

    Raises:
        InputError: if there is no champion, or the registry's copy of it is damaged.
    """
    if isinstance(policy, ArtefactPolicy):
        return Path(policy.path)
    champion = Registry(Path(policy.registry)).champion()
    if champion is None:
        raise InputError(
            f"{policy.registry} has no champion: tercet promote path=<artefact> reason=<why>"
        )
    champion.contents()
    return champion.folder


def _checked_reason(reason: str) -> str:
    reason = reason.strip()
    if not 1 <= len(reason) <= MOST_REASON or not reason.isprintable():
        raise InputError(
            f"reason must be one line of 1 to {MOST_REASON} characters, was {reason[:40]!r}"
        )
    return reason


def _require_artefact(folder: Path) -> None:
    """Say where the artefact lies, to who names the run that it came from."""
    inner = folder / "artefact"
    if not (folder / MANIFEST).exists() and (inner / MANIFEST).exists():
        raise InputError(f"{folder} is a run, not an artefact: did you mean path={inner}?")


def _store(copy: Path, contents: Contents) -> None:
    """Write the registry's copy, or mend it where it is damaged."""
    if not copy.exists():
        try:
            return write_folder(copy, contents.files)
        except OSError:
            if not copy.exists():
                raise  # else another process was faster
    for name, content in contents.files.items():
        if not _holds(copy / name, content):
            write_file(copy / name, content)


def _holds(path: Path, content: bytes) -> bool:
    try:
        return read_plain(path, len(content)) == content
    except InputError:
        return False
