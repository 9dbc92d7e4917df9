"""A local exchange that speaks the part of Alpaca's REST interface that a trader needs."""
