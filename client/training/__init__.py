"""Training: the base on labelled source images, and each site's adaptation to its unlabelled ones.

Import from the modules: ``settings`` and ``progress`` need no PyTorch, so reading a setting stays quick.
"""
