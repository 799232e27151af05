import re

import pytest
import torch
from torch import nn

from client.models import build
from client.models.mit import DropPath


def ours(name):
    """Translate a name in transformers (5.23's, or those before) to ours; keys and values are one tensor here."""
    for pattern, new in (
        (r"^(segformer\.)?(encoder\.)?", ""),
        (r"^stages\.(\d)\.patch_embeddings", r"patch_embed\1"),
        (r"^stages\.(\d)\.blocks", r"block\1"),
        (r"^stages\.(\d)\.layer_norm", r"norm\1"),
        (r"^patch_embeddings\.(\d)", r"patch_embed\1"),
        (r"^block\.(\d)", r"block\1"),
        (r"^layer_norm\.(\d)", r"norm\1"),
        (r"attention\.sequence_reduction\.sequence_reduction|attention\.self\.sr", "attn.sr"),
        (r"attention\.(self|sequence_reduction)\.layer_norm", "attn.norm"),
        (r"attention\.(q_proj|self\.query)", "attn.q"),
        (r"attention\.(k_proj|v_proj|self\.key|self\.value)", "attn.kv"),
        (r"attention\.(o_proj|output\.dense)", "attn.proj"),
        (r"layernorm_before|layer_norm_1", "norm1"),
        (r"layernorm_after|layer_norm_2", "norm2"),
        (r"mlp\.dense", "mlp.fc"),
        (r"layer_norm", "norm"),
    ):
        name = re.sub(pattern, new, name)
    return re.sub(r"^(patch_embed|block|norm)(\d)", lambda found: f"{found[1]}{int(found[2]) + 1}", name)


def test_it_computes_what_transformers_does():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    theirs = transformers.SegformerModel(transformers.SegformerConfig()).double().eval()
    encoder = build("segformer-mitb0", 19).backbone.double().eval()
    state = {name: [] for name in encoder.state_dict()}
    for name, tensor in theirs.state_dict().items():
        state[ours(name)].append(tensor if tensor.ndim > 1 else torch.randn_like(tensor))
    for name, parts in state.items():
        state[name] = torch.cat(parts)
    encoder.load_state_dict(state)
    with torch.no_grad():
        taken = dict.fromkeys(state, 0)
        for name, tensor in theirs.state_dict().items():
            start = taken[ours(name)]
            taken[ours(name)] = start + len(tensor)
            tensor.copy_(state[ours(name)][start : start + len(tensor)])
        for name, module in theirs.named_modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = encoder.get_submodule(ours(name)).eps  # transformers has 1e-5 everywhere
        images = torch.randn(2, 3, 64, 128, dtype=torch.float64)
        expected = theirs(images, output_hidden_states=True).hidden_states
        for mine, stage in zip(encoder(images), expected, strict=True):
            torch.testing.assert_close(mine, stage, rtol=1e-10, atol=1e-10)


def test_it_has_as_many_parameters_as_transformers():
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        theirs = transformers.SegformerForSemanticSegmentation(transformers.SegformerConfig(num_labels=19))
    sizes = [parameter.numel() for parameter in theirs.parameters()]
    mine = [p.numel() for p in build("segformer-mitb0", 19).parameters() if p.requires_grad]
    assert (sum(sizes), len(sizes)) == (sum(mine), 205)


def test_a_left_out_branch_is_left_out_for_the_whole_sample_and_made_up_for():
    torch.manual_seed(0)
    path = DropPath(0.25)
    out = path(torch.ones(4000, 3, 2))
    assert torch.equal(out, out[:, :1, :1].expand_as(out))
    assert out.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert abs(float(out.mean()) - 1) < 0.03
    assert torch.equal(path.eval()(torch.ones(4, 3, 2)), torch.ones(4, 3, 2))


def test_the_deepest_branches_are_left_out_most():
    rates = [m.rate for m in build("segformer-mitb0", 19).modules() if isinstance(m, DropPath)]
    assert rates == pytest.approx([i * 0.1 / 7 for i in range(8)])
