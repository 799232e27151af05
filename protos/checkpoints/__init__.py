"""The model files that people have, opened out of core and without torch; and checkpoints for their tools."""

from protos.checkpoints.digesting import DigestingReader
from protos.checkpoints.modelfile import ModelFile
from protos.checkpoints.opening import open_model
from protos.checkpoints.reader import ModelReader
from protos.checkpoints.source import Kind
from protos.checkpoints.writing import write_torch

__all__ = ["DigestingReader", "Kind", "ModelFile", "ModelReader", "open_model", "write_torch"]
