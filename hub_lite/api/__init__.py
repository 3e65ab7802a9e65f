"""HTTP: parse, call the hub, answer. No rules live here."""
