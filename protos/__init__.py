"""The ground floor: the wire contract, and all code that reads, writes, digests or signs what crosses it.

It imports neither ``coordinator`` nor ``client``; both of them import it.
"""
