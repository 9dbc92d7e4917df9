"""`tercet costs`: what an account's trades have cost, as a model that `env/costs=fitted` takes."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from agents.whole_files import write_file
from cli.config import CostsConfig
from cli.verbs import verb
from envs.costs import CostModel
from envs.fitted_costs import RATES, Fitted, Trade, fit, record
from market.errors import InputError
from risk.gateway.process import open_ledger
from risk.gateway.quality import Leg, legs, qualities
from risk.gateway.storage import LedgerFailed


@verb(CostsConfig)
def main(config: CostsConfig) -> None:
    """Read the fills of the ledger, fit, write, and say how sure it is."""
    since = date.min if config.since is None else date.fromisoformat(config.since)
    ledger = open_ledger(config.control)
    try:
        found = legs(qualities(ledger, ledger.orders()))
    except LedgerFailed as error:
        raise InputError(str(error)) from error
    recent = [leg for leg in found if leg.session >= since]
    trades = [trade for leg in recent if (trade := _trade(leg)) is not None]
    fitted = fit(trades, config.env.costs, config.doubt, config.least_trades)
    told = {**record(fitted, config.env.costs), **_told_of(recent), "ledger": ledger.place}
    _write(Path(config.out), told)
    _say(fitted, config.env.costs, config.out)


def _trade(leg: Leg) -> Trade | None:
    """Return a leg as the fit takes it; None where the market source knew too little of it."""
    if not leg.participation or not leg.sigma:
        return None
    return Trade(
        notional=float(leg.notional),
        slippage_bp=float(leg.slippage_bp),
        volatility=float(leg.sigma),
        participation=float(leg.participation),
        commission=float(leg.commission),
    )


def _told_of(found: Sequence[Leg]) -> dict[str, Any]:
    """Return what the fit was made of."""
    asked = sum(leg.asked * leg.notional / leg.filled for leg in found)
    return {
        "from": min((leg.session.isoformat() for leg in found), default=None),
        "until": max((leg.session.isoformat() for leg in found), default=None),
        "notional": str(round(sum(leg.notional for leg in found), 2)),
        # A limit order that was not filled has cost nothing here, and may have cost a gain.
        "filled_share": round(float(sum(leg.notional for leg in found) / asked), 4)
        if asked
        else None,
    }


def _write(path: Path, told: dict[str, Any]) -> None:
    """Write the file whole or not at all.

    Raises:
        InputError: if it cannot be written.
    """
    text = json.dumps(told, indent=1, allow_nan=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, text.encode())
    except OSError as error:
        raise InputError(f"out={path}: {error.strerror}") from error


def _say(fitted: Fitted, configured: CostModel, out: str) -> None:
    before, after = asdict(configured), asdict(fitted.costs)
    print(f"{fitted.trades} trades")
    for name in RATES:
        error = fitted.errors.get(name)
        sure = "" if error is None else f" +- {error:.3g}"
        print(f"  {name:<14} {after[name]:.4g}{sure}  (configured {before[name]:.4g})")
    for sentence in fitted.said:
        print(sentence)
    print(f"{out}: take it by env/costs=fitted env.costs.path={out}")
