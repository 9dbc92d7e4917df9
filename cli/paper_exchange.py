"""`tercet paper-exchange`: a broker on this machine, until Ctrl-C or SIGTERM."""

import signal
from pathlib import Path

from brokers.exchange.exchange import Exchange
from brokers.exchange.serve import application, server
from cli.config import PaperExchangeConfig
from cli.verbs import verb
from market.load import load_bars
from risk.gateway.listening import address, listening_socket


@verb(PaperExchangeConfig)
def main(config: PaperExchangeConfig) -> None:
    """Serve one account at the prices of a market."""
    bars = load_bars(config.market, config.quality)
    settings = config.exchange
    exchange = Exchange(Path(config.database), bars, config.market.exchange, settings)
    # The server stops by itself and then passes the signal on: nothing is left to do.
    signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with listening_socket(config.host, config.port) as listener:
            url = address(listener)
            print(f"paper exchange on {url} (clock: {settings.clock.value})", flush=True)
            app = application(exchange, settings.key, settings.secret)
            server(app).run(sockets=[listener])
    finally:
        exchange.close()
