"""The roles that artefacts can have, and how a change of one moves the others."""

from dataclasses import dataclass, replace

from market.errors import InputError

SHORT = 12  # digits of a sha256 that are shown to people


@dataclass(frozen=True, slots=True)
class Roles:
    """Who has which role, by sha256.

    Args:
        champion: answers every account that the challenger does not.
        previous: what a rollback brings back.
        challenger: answers a share of the accounts, or runs in shadow.
        share: in [0, 1], of the accounts; 0 is shadow, or no challenger.
    """

    champion: str | None
    previous: str | None
    challenger: str | None
    share: float


NOBODY = Roles(None, None, None, 0.0)


def crowned(roles: Roles, sha256: str) -> Roles:
    """Make an artefact the champion, and the champion so far the previous one.

    Raises:
        InputError: if it is the champion already.
    """
    if roles.champion == sha256:
        raise InputError(f"artefact {sha256[:SHORT]} is the champion already")
    if roles.challenger == sha256:
        roles = replace(roles, challenger=None, share=0.0)
    return replace(roles, champion=sha256, previous=roles.champion)


def challenged(roles: Roles, sha256: str, share: float) -> Roles:
    """Make an artefact the challenger, or change the challenger's share.

    Raises:
        InputError: if the share is none, there is no champion, it is this one, or nothing changes.
    """
    if not 0.0 <= share <= 1.0:
        raise InputError(f"share must be in [0, 1], was {share}")
    if roles.champion is None:
        raise InputError("there is no champion to challenge: promote one first")
    if roles.champion == sha256:
        raise InputError(f"artefact {sha256[:SHORT]} is the champion: it cannot challenge itself")
    if (roles.challenger, roles.share) == (sha256, share):
        raise InputError(f"artefact {sha256[:SHORT]} is the challenger at share={share:g} already")
    return replace(roles, challenger=sha256, share=share)


def retired(roles: Roles) -> Roles:
    """Have no challenger any more.

    Raises:
        InputError: if there is none.
    """
    if roles.challenger is None:
        raise InputError("there is no challenger to retire")
    return replace(roles, challenger=None, share=0.0)
