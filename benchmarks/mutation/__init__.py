"""Small mistakes put into checks and order states on purpose, for the tests to find."""
