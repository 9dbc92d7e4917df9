"""The subverbs of `tercet gateway` with which persons change limits and ramp, and see the past."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cli.account_config import GatewayConfig
from market.errors import InputError
from risk.gateway.limits_in_force import differences
from risk.gateway.signing import id_of, signature

Ask = Callable[..., Any]  # (config, method, path, body=None) -> the answer
SHOWN = 20  # days of the history on the screen


def show_limits(config: GatewayConfig, ask: Ask) -> None:
    """Show the limits in force and what waits, or tighten them."""
    if config.file is not None:
        found = ask(config, "POST", "/v1/limits", {"limits": _read(config.file)})
        print(f"limits {found['version']} are in force")
        return
    now = ask(config, "GET", "/v1/limits")
    print(json.dumps(now, indent=2))
    for one in ask(config, "GET", "/v1/limits/proposals")["proposals"]:
        print(f"\nproposal {one['id']}  ({one['state']}, by {one['actor']})")
        _show(now["limits"], one)


def propose(config: GatewayConfig, ask: Ask) -> None:
    """Propose limits that allow more."""
    if config.file is None:
        raise InputError("proposing needs a JSON file with all limits: file=<JSON>")
    now = ask(config, "GET", "/v1/limits")["limits"]
    found = ask(config, "POST", "/v1/limits/proposals", {"limits": _read(config.file)})
    print(f"proposal {found['id']} waits for signatures:")
    _show(now, found)
    print(f"  tercet gateway sign proposal={found['id']} person=<name> key=<PEM file>")


def sign(config: GatewayConfig, ask: Ask) -> None:
    """Sign a proposal with the own key, which stays on this machine."""
    if config.proposal is None or config.person is None or config.key is None:
        raise InputError("signing needs proposal=<id> person=<name> key=<PEM file>")
    waiting = ask(config, "GET", "/v1/limits/proposals")["proposals"]
    found = next((one for one in waiting if one["id"] == config.proposal), None)
    if found is None:
        raise InputError(f"no proposal {config.proposal} waits")
    text = found["text"]
    said = json.loads(text)
    if id_of(text) != found["id"] or said["limits"] != found["limits"]:
        raise InputError("the gateway shows other limits than it wants signed")
    _show(ask(config, "GET", "/v1/limits")["limits"], found)
    body = {
        "proposal": found["id"],
        "person": config.person,
        "signature": signature(Path(config.key), text),
    }
    signed = ask(config, "POST", "/v1/limits/signatures", body)
    when = "they hold from the next session on" if signed["signed_in"] else "more must sign"
    print(f"signed by {', '.join(signed['signed_by'])}: {when}")


def ramp(config: GatewayConfig, ask: Ask) -> None:
    """Move a policy to a stage of the capital ramp."""
    if config.model is None or config.stage is None:
        raise InputError("the ramp needs model=<sha256> stage=<number, from 0>")
    body = {"model": config.model, "stage": config.stage}
    found = ask(config, "POST", "/v1/ramp", body)
    print(f"model {found['model']} is at stage {found['stage']}")


def history(config: GatewayConfig, ask: Ask) -> None:
    """Show the last days, what models made of each regime, and their ramps."""
    found = ask(config, "GET", "/v1/history")
    print(f"{'session':<12}{'equity':>16}{'cash':>16}{'exposure':>10}  regime")
    for day in found["days"][:SHOWN]:
        print(
            f"{day['session']:<12}{float(day['equity']):>16,.2f}{float(day['cash']):>16,.2f}"
            f"{day['exposure']:>10}  {day['regime'] or '-'}"
        )
    for one in found["performance"]:
        print(
            f"model {one['model'][:12]}  {one['regime']:<18} {one['sessions']:>4} sessions"
            f"  mean {float(one['mean_return']):+.4%}  in all {float(one['total_return']):+.2%}"
        )
    for one in found["ramps"]:
        print(f"model {one['model'][:12]}  stage {one['stage']}, {one['sessions']} sessions in it")


def _read(file: str) -> Any:
    try:
        return json.loads(Path(file).read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read: {error}") from None


def _show(now: dict[str, Any], proposal: dict[str, Any]) -> None:
    for name, (before, after) in differences(now, proposal["limits"]).items():
        print(f"  {name}: {before} -> {after}")
    print(f"  signed by: {', '.join(proposal['signed_by']) or 'nobody'}")
