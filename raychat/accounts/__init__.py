"""Accounts: a phone number proves itself with a code and becomes an account id."""
