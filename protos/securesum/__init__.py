"""Secure sum: a coordinator learns the sum of the sites' updates, and nothing else about any of them.

Source: K. Bonawitz et al., *Practical Secure Aggregation for Privacy-Preserving Machine Learning*, CCS 2017: the
double-masked protocol with recovery of drop-outs, in the variant against an active adversary, with its
consistency check. A merge is a sum of integers (`protos.fixedpoint`, `protos.statistics`), so masks are added
modulo a power of two and vanish from the sum without a trace: its bits are those of the plain sum.

==== ============ ======================================================= =====================================
 #   what         a site says (signed)                                    the coordinator answers, to each site
==== ============ ======================================================= =====================================
 0   advertise    `Keys`: two X25519 keys, a commitment to its seed        `Roster`: all keys, with signatures
 1   share        `Shares`: of its seed and mask key, encrypted            `Delivery`: the shares made for it
 2   mask         `Masked`, and values + self-mask ± pairwise masks        `Survivors`: whose values arrived
 3   confirm      `Confirmation`: the sets as it was told them             `Confirmations`: a threshold of them
 4   reveal       `Reveal`: survivors' seed shares, drop-outs' key shares  –
==== ============ ======================================================= =====================================

`site` and `coordinator` are the two state machines, one frozen class for each stage; `agreement`, `roster` and
`messages` are what both check. `keys`, `sharing`, `keystream` and `wide` are the cryptography and arithmetic;
`layout`, `masking` and `total` apply them to a model. Nothing here does any I/O or knows Flower. What the protocol
protects and what it doesn't is in ``docs/security-sums.md``.
"""
