"""`tercet kill`: stop all trading of an account, with the gateway hung, Redis dead or Ray dead."""

import getpass
import os
from pathlib import Path

from cli.account import connection
from cli.account_config import KillConfig
from cli.verbs import verb
from market.errors import InputError
from risk.gateway.broker import Broker
from risk.gateway.kill import stop_everything
from risk.gateway.permit import HaltFile, Permit
from risk.gateway.process import open_ledger, permit_of
from risk.gateway.settings import PermitKind

TEXTS = ("reason",)


@verb(KillConfig)
def main(config: KillConfig) -> None:
    """Do all that can be done, and say what worked."""
    control = config.control

    def broker() -> Broker:
        return connection(config.broker)()

    def permit() -> Permit:
        account = broker().account().id if control.permit is PermitKind.redis else ""
        return permit_of(control, open_ledger(control), account)

    steps = stop_everything(
        config.reason,
        _who(),
        HaltFile(Path(control.halt_file)),
        lambda: open_ledger(control),
        permit,
        broker,
    )
    for step in steps:
        word = "done" if step.problem is None else "FAILED"
        detail = "" if step.problem is None else f": {step.problem}"
        print(f"{word:<6}  {step.seconds:6.2f} s  {step.name}{detail}", flush=True)
    failed = [step.name for step in steps if step.problem is not None]
    if failed:
        raise InputError(f"not done: {', '.join(failed)}")


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an id without a name, as in many containers
        return f"user {os.getuid()}"
