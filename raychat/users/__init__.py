"""The User actor: its inbox, the delivery contract and receipts. Pure rules, no I/O."""
