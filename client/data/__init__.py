"""Images and labels: what a site adapts on, and what a model is judged on.

Images are uint8 RGB everywhere until ``images.normalise`` turns a batch into a network's input. Import from the
modules: ``settings`` and ``labels`` need no PyTorch, so reading a setting stays quick.
"""
