"""Images and labels: what a site adapts on, and what a model is judged on.

Images are uint8 RGB everywhere until ``images.normalise`` turns a batch into a network's input. Import from the
modules: ``settings`` and ``layouts`` need neither PyTorch nor NumPy, so reading a setting stays quick.

::

    settings, layouts       what site.toml says; where data sets keep their files (tables)
    listing, hints          finding and pairing files; what to say if they are not there
    encoded, reading        one file → RGB, or train ids
    cutting, rare           one image → what a step sees; which image is drawn (pure)
    statistics              classes counted once, and kept
    feed, memory, disk      what training is fed: the interface, and two that keep it
    opening                 settings → feed, or images to judge models on
    checking, findings, check_text, contact_sheet     onebasin site check-data
    scenes, datasets        procedural scenes, and images in memory
"""
