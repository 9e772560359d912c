"""Key transparency: a log of every account's device lists that its keeper cannot rewrite unseen.

Pure rules that devices and the server share; TRANSPARENCY.md beside this file is the format.
"""
