"""The accounting kernel, its cost models and the environments over it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from envs.make import make_env as make_env
    from envs.market_env import MarketEnv as MarketEnv

__all__ = ["MarketEnv", "make_env"]


def __getattr__(name: str) -> Any:
    """Import the PettingZoo environment only when asked for: the kernel needs torch alone."""
    if name == "MarketEnv":
        from envs.market_env import MarketEnv

        return MarketEnv
    if name == "make_env":
        from envs.make import make_env

        return make_env
    raise AttributeError(f"module 'envs' has no attribute {name!r}")
