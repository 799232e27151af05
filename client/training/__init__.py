"""Training: the base on labelled source images, and each site's adaptation to its unlabelled ones."""

from __future__ import annotations

from client.training.adapt import Adapted, adapt
from client.training.progress import Progress, Report
from client.training.settings import AdaptSettings, BaseSettings
from client.training.supervised import train_base

__all__ = ["AdaptSettings", "Adapted", "BaseSettings", "Progress", "Report", "adapt", "train_base"]
