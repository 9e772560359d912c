"""Other messengers, started and spoken to for comparison."""
