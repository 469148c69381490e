"""The offline trainer: film -> frames -> training -> evaluation -> publication."""
