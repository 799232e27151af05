"""The page to look at: what the command line reports and does, in a browser.

It has no logic of its own: what it shows and does goes through the functions that the commands call. Here are who
may see it (`access`, `guard`), how things are put (`words`, ``templates``), what takes long (`jobs`, `actions`),
and how it is served (`serving`).
"""
