"""What a provider implements: Protocols and the values they exchange. No I/O, no framework code."""
