"""What GPUs need, as far as a CPU can show it."""

import subprocess
import sys
import warnings

import pytest
import torch

from client.models import build
from client.training import engine as engines
from client.training.adapt import adapt
from client.training.engine import Engine, FabricEngine, launch, resolve
from client.training.loop import Job, train
from client.training.settings import AdaptSettings
from protos.errors import ConfigurationError

NAME = "segformer-mitb0"
QUIET = lambda progress: None  # noqa: E731


@pytest.fixture(scope="module")
def fabric():
    """A Fabric on the CPU with a gradient scaler, which it would otherwise only use on a GPU."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lightning_fabric import Fabric
        from lightning_fabric.plugins.precision import MixedPrecision

        return lambda: Fabric(accelerator="cpu", plugins=[MixedPrecision("16-mixed", "cpu")])


@pytest.fixture
def gpus(monkeypatch):
    def have(number):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: number)

    return have


def test_auto_takes_a_gpu_if_there_is_one(gpus):
    gpus(0)
    assert resolve("auto", 1) == torch.device("cpu")
    gpus(2)
    assert resolve("auto", 2) == torch.device("cuda", 0)
    assert resolve("cpu", 1) == torch.device("cpu")


def test_a_device_that_is_not_there_is_named(gpus):
    gpus(0)
    with pytest.raises(ConfigurationError, match="There is no GPU"):
        resolve("cuda", 1)
    gpus(2)
    with pytest.raises(ConfigurationError, match="3 GPUs are asked for, but there are 2"):
        resolve("auto", 3)
    with pytest.raises(ConfigurationError, match="'tpu'"):
        resolve("tpu", 1)


def test_one_cpu_in_float32_does_without_fabric():
    code = (
        "import sys; from client.training.engine import launch; import torch\n"
        "launch(lambda engine, job: None, None, torch.device('cpu'), 1, '32')\n"
        "sys.exit(any(name.startswith('lightning') for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_anything_else_takes_fabric(fabric):
    found = launch(lambda engine, job: (type(engine), job), "it", torch.device("cpu"), 1, "bf16-mixed")
    assert found == (FabricEngine, "it")


def job_of(square_feed, settings, report=QUIET, checkpoint=None):
    name = "tiny-resnet"
    return Job(build(name, 19).state_dict(), name, 19, square_feed, settings, report, {}, checkpoint, None)


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_the_gradient_scaler_is_used_and_continued(fabric, square_feed, tmp_path, clip):
    settings = AdaptSettings(method="dacs", steps=3, warmup=0, checkpoint_every=1, clip=clip)
    scales = {}

    def noting(progress):
        scales[progress.step] = torch.load(tmp_path / "whole.pt", weights_only=True)["engine"]["_growth_tracker"]

    whole = train(FabricEngine(fabric()), job_of(square_feed, settings, noting, tmp_path / "whole.pt"))

    class PowerCutError(Exception):
        pass

    def cut(progress):
        if progress.step == 2:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        train(FabricEngine(fabric()), job_of(square_feed, settings, cut, tmp_path / "half.pt"))
    resumed = train(FabricEngine(fabric()), job_of(square_feed, settings, QUIET, tmp_path / "half.pt"))
    assert all(torch.equal(value, resumed.student[key]) for key, value in whole.student.items())
    assert torch.load(tmp_path / "half.pt", weights_only=True)["engine"]["_growth_tracker"] == scales[3]


def test_mixed_precision_ends_near_full_precision(square_feed):
    base = build(NAME, 19).state_dict()
    ends = {}
    for precision in ("32", "bf16-mixed"):
        losses = []
        settings = AdaptSettings(method="dacs", steps=2, precision=precision, warmup=0)
        adapt(base, NAME, 19, square_feed, settings, lambda progress, losses=losses: losses.append(progress.loss))
        ends[precision] = losses
    assert ends["32"] == pytest.approx(ends["bf16-mixed"], rel=0.02)
    assert ends["32"] != ends["bf16-mixed"]


def test_gradients_are_clipped_to_a_norm():
    engine, layer = Engine(torch.device("cpu")), torch.nn.Linear(3, 3)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    engine.wrap(layer, optimizer)
    engine.backward(100 * layer(torch.ones(1, 3)).square().sum())
    engine.clip(optimizer, 0.0)
    before = torch.cat([p.grad.flatten() for p in layer.parameters()])
    engine.clip(optimizer, 0.5)
    after = torch.cat([p.grad.flatten() for p in layer.parameters()])
    assert before.norm() > 0.5
    torch.testing.assert_close(after, before / before.norm() * 0.5)


def test_an_error_of_another_process_keeps_its_words():
    text = """
-- Process 1 terminated with the following error:
Traceback (most recent call last):
protos.errors.AdaptationError: The loss is nan at step 3.
  → Lower the learning rate.
"""
    error = engines._of_process(text)
    assert (error.what, error.fix) == ("The loss is nan at step 3.", "Lower the learning rate.")
    other = engines._of_process("process 0 terminated with signal SIGKILL")
    assert "SIGKILL" in other.what
    assert "continues" in other.fix
