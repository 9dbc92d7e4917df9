"""What a paper exchange is configured with."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from math import isfinite


class ClockMode(Enum):
    """What moves the exchange's time."""

    wall = "wall"  # the machine's clock
    driven = "driven"  # only who asks for it, through the administration


@dataclass(slots=True)
class ExchangeSettings:
    """The terms of the exchange and of its only account.

    Args:
        key: that callers send as APCA-API-KEY-ID.
        secret: that callers send as APCA-API-SECRET-KEY.
        cash: of a new account, account currency, > 0.
        multiplier: of the buying power: 1 is a cash account, which cannot sell short; 2 or 4.
        clock: what moves time.
        start: ISO time with its zone at which a new exchange begins; None is now for the wall
            clock, and a quarter of an hour before the last session of the prices for a driven one.
        step_s: seconds from one attempt to fill to the next, >= 1.
        share_per_step: of an order's quantity that one attempt can fill, in [0, 1].
        half_spread_bp: of the price, from the middle to bid and ask, >= 0.
        slippage_bp: of the price, beyond bid and ask, >= 0; never beyond a limit.
        commission_bp: of the notional, >= 0.
        commission_per_share: account currency, >= 0.
    """

    key: str
    secret: str
    cash: float
    multiplier: int
    clock: ClockMode
    start: str | None
    step_s: int
    share_per_step: float
    half_spread_bp: float
    slippage_bp: float
    commission_bp: float
    commission_per_share: float

    def __post_init__(self) -> None:
        if not (self.key and self.secret):
            raise ValueError("exchange.key and exchange.secret must not be empty")
        if not (isfinite(self.cash) and self.cash > 0.0):
            raise ValueError(f"exchange.cash must be above 0, was {self.cash}")
        if self.multiplier not in (1, 2, 4):
            raise ValueError(f"exchange.multiplier must be 1, 2 or 4, was {self.multiplier}")
        if self.step_s < 1:
            raise ValueError(f"exchange.step_s must be at least 1, was {self.step_s}")
        if self.start is not None:
            _check_time(self.start)
        self.terms()

    def terms(self) -> "Terms":
        """Return the terms of execution as exact numbers."""
        return Terms(
            *(
                Decimal(str(value))
                for value in (
                    self.share_per_step,
                    self.half_spread_bp,
                    self.slippage_bp,
                    self.commission_bp,
                    self.commission_per_share,
                )
            )
        )


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of execution, exact; see `ExchangeSettings` for the units."""

    share_per_step: Decimal
    half_spread_bp: Decimal
    slippage_bp: Decimal
    commission_bp: Decimal
    commission_per_share: Decimal

    def __post_init__(self) -> None:
        if not (self.share_per_step.is_finite() and 0 <= self.share_per_step <= 1):
            raise ValueError(
                f"exchange.share_per_step must be in [0, 1], was {self.share_per_step}"
            )
        for name in ("half_spread_bp", "slippage_bp", "commission_bp", "commission_per_share"):
            value: Decimal = getattr(self, name)
            if not (value.is_finite() and value >= 0):
                raise ValueError(f"exchange.{name} must be at least 0, was {value}")


def _check_time(text: str) -> None:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"exchange.start: {error}") from None
    if time.tzinfo is None:
        raise ValueError(f"exchange.start needs its time zone, was {text}")
