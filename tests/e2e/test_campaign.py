"""Whole campaigns over a real SuperLink and real SuperNodes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from client import adapting
from client.outbox import Outbox
from client.site import Site
from coordinator import certificates, roster, superlink
from coordinator.home import Home
from coordinator.watching import RunFailedError
from protos import code, keyfiles, receipts
from protos.digest import file_digest
from protos.manifest import VAR
from protos.merged import further_key
from protos.programs import free_port
from protos.rules import Rules
from protos.tensorfile import TensorFile

SITES = ("alpha", "beta", "gamma")
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def names(events, event):
    return sorted(e["site"] for e in events if e["event"] == event and "site" in e)


def reference(models):
    """Merge models in float64, by the formulas of the paper."""
    merged = {}
    for name in models[0]:
        layer, _, last = name.rpartition(".")
        counts = np.array([int(m.get(f"{layer}.num_batches_tracked", 0)) for m in models], np.float64)
        weights = counts / counts.sum() if counts.any() else counts
        means = np.stack([m.get(f"{layer}.running_mean", np.zeros(1)).astype(np.float64) for m in models])
        if last == "running_mean":
            merged[name] = weights @ means
        elif last == "running_var":
            variances = np.stack([m[name].astype(np.float64) for m in models])
            merged[name] = weights @ (variances + (means - weights @ means) ** 2)
        elif last == "num_batches_tracked":
            merged[name] = counts.sum()
        else:
            merged[name] = np.mean([m[name].astype(np.float64) for m in models], axis=0)
    return merged


def test_sites_adapt_submit_are_merged_and_evaluate(federation):
    campaign = federation.campaign(compare_single_models=True, buffers="routed", evaluate=True, deliver=True)
    joined = {name: federation.sites[name].joined() for name in SITES}

    events = federation.run(campaign)

    assert names(events, "folded") == ["alpha", "beta", "gamma"]
    assert names(events, "evaluated") == ["alpha", "beta", "gamma"]
    assert campaign.outcome()["ok"]
    # What came out is the merge of what the sites hold, by an independent computation.
    models = [load_file(Outbox(j).model) for j in joined.values()]
    merged = load_file(campaign.merged / "merged.safetensors")
    for name, wanted in reference(models).items():
        np.testing.assert_allclose(merged[name], wanted, rtol=1e-6, atol=2**-40, err_msg=name)
    assert any((models[0][name] != models[1][name]).any() for name in models[0] if "weight" in name)
    # The receipt is the coordinator's, and names exactly these updates and this result.
    receipt = receipts.read(campaign.merged / "receipt.json", campaign.campaign.message.coordinator_key)
    assert {i.site: i.digest for i in receipt.inputs} == {n: Outbox(j).digest().hex() for n, j in joined.items()}
    with TensorFile(campaign.merged / "merged.safetensors") as file:
        assert receipt.merged.digest == file_digest(file).hex()
    # The report has every row, judged at every site.
    report = json.loads((campaign.merged / "report.json").read_text())
    assert len(report["rows"]) == 1 + 3 + 3 + 5
    assert all(len(row["scores"]) == 3 for row in report["rows"])
    # The merged model carries what each site measured, and every site has it, bit for bit, with its receipt.
    assert all(further_key(name, "backbone.stem.bn", VAR) in merged for name in SITES)
    for kept in joined.values():
        assert (kept.folder / "merged.safetensors").read_bytes() == (
            campaign.merged / "merged.safetensors"
        ).read_bytes()
        assert (kept.folder / "receipt.json").read_bytes() == (campaign.merged / "receipt.json").read_bytes()
    assert (campaign.merged / "report.html").exists()
    assert (campaign.merged / "README.md").read_text().startswith("---\n")


def test_an_update_that_is_there_is_sent_at_once_and_merges_to_the_same_bits(federation):
    first = federation.campaign()
    for name in SITES:
        adapting.run(federation.sites[name].joined())

    events = federation.run(first)

    assert {e["state"] for e in events if e["event"] == "progress"} == {"ready"}
    assert not list((first.path / "arrivals").glob("*/parameters.safetensors"))
    # A second run finds all folded, asks for nothing again, and comes out the same.
    merged = (first.merged / "merged.safetensors").read_bytes()
    again = federation.run(first)
    assert names(again, "already-folded") == ["alpha", "beta", "gamma"]
    assert not names(again, "header")
    assert (first.merged / "merged.safetensors").read_bytes() == merged


def test_what_is_killed_at_sites_is_started_again_and_goes_on(federation):
    # Flower refuses a killed node's key for up to a minute.
    campaign = federation.campaign(deadline_seconds=240, patience_seconds=150)
    site = federation.sites["alpha"]
    site_toml = site.settings_path.read_text()
    site.settings_path.write_text(site_toml.replace("steps = 3", "steps = 100"))
    site.__dict__.pop("settings", None)
    for name in ("beta", "gamma"):
        adapting.run(federation.sites[name].joined())
    killed = {}

    def kill_adapting():
        path = site.joined().folder / "progress.json"
        while "alpha" not in killed:
            time.sleep(0.05)
            progress = json.loads(path.read_text()) if path.exists() else {}
            if progress.get("phase") == "adapt" and progress["step"] > 1:
                os.kill(progress["pid"], signal.SIGKILL)
                killed["alpha"] = progress

    def kill_node(event):
        if event["event"] == "asked" and event["site"] == "beta" and "beta" not in killed:
            federation.kill_node("beta")  # it sleeps for three seconds before it looks for this request
            killed["beta"] = event

    killer = threading.Thread(target=kill_adapting, daemon=True)
    killer.start()
    try:
        events = federation.run(campaign, kill_node)
    finally:
        site.settings_path.write_text(site_toml)
        site.__dict__.pop("settings", None)
    killer.join(timeout=1)

    assert killed.keys() == {"alpha", "beta"}, "it was over before it could be killed"
    assert "stopped" in {e["state"] for e in events if e["event"] == "progress" and e["site"] == "alpha"}
    assert {"no-answer", "disconnected"} & {e["event"] for e in events if e.get("site") == "beta"}
    assert names(events, "folded") == ["alpha", "beta", "gamma"]


def test_with_enough_sites_a_missing_one_does_not_stop_the_merge(federation):
    federation.campaign()  # another one of the same code, so that site beta lets it run
    campaign = federation.campaign(minimum_sites=2, join=("alpha", "gamma"))
    for name in ("alpha", "gamma"):
        adapting.run(federation.sites[name].joined())

    events = federation.run(campaign)

    assert names(events, "folded") == ["alpha", "gamma"]
    (refused,) = [e for e in events if e["event"] == "refused"]
    assert refused["site"] == "beta"
    assert "joined another campaign" in refused["message"]
    report = json.loads((campaign.merged / "report.json").read_text())
    assert {s["site"]: s["state"] for s in report["sites"]} == {
        "alpha": "merged",
        "beta": "refused",
        "gamma": "merged",
    }


def damage_base(joined):
    content = bytearray(joined.base.read_bytes())
    content[-1] ^= 1
    joined.base.write_bytes(content)


def tamper(joined):
    """Change one bit of a finished update: the site itself refuses to send it, and says which tensor."""
    adapting.run(joined)
    content = bytearray(Outbox(joined).model.read_bytes())
    content[-1] ^= 1
    Outbox(joined).model.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (damage_base, "has not the campaign's base"),
        (tamper, "can't be merged (tensor decode_head."),
    ],
)
def test_a_site_that_cannot_deliver_is_named_and_the_run_fails(federation, harm, said):
    campaign = federation.campaign(members=("alpha", "beta"), join=("alpha", "beta"))
    settings = federation.sites["beta"].settings_path.read_text()
    harm(federation.sites["beta"].joined())
    command = [sys.executable, "-m", "onebasin", "coordinator", "run"]
    command += [str(federation.home.folder), campaign.path.name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    finally:
        federation.sites["beta"].settings_path.write_text(settings)

    assert done.returncode == 9, done.stderr
    assert "site beta" in done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not campaign.merged.exists()


def wait_for(text: str, log: Path) -> None:
    """Wait until it stands in a log; half a minute at most."""
    until = time.monotonic() + 30
    while text not in log.read_text():
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.2)


def test_an_unregistered_node_is_not_let_in(federation, tmp_path):
    site = Site.init(tmp_path / "eve", "eve", address=federation.home.settings.fleet_address, domain="night")
    site = Site.open(site.folder)
    shutil.copy(federation.home.keys / "ca.crt", site.keys / "ca.crt")
    federation.start_node("eve", site)
    wait_for("refuses the key of site eve: it is not registered", federation.folder / "supernode-eve.log")
    federation.processes.kill("eve")


def test_changed_code_is_refused_before_a_line_of_it_runs(federation, tmp_path, monkeypatch):
    changed = tmp_path / "bundle"
    shutil.copytree(code.BUNDLE, changed, ignore=shutil.ignore_patterns("__pycache__"))
    stub = changed / "onebasin_bundle" / "site.py"
    stub.write_text(stub.read_text() + f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()\n")
    code.installed_digest()  # kept, so that the coordinator doesn't notice what it ships
    monkeypatch.setattr(code, "BUNDLE", changed)
    campaign = federation.campaign(members=("alpha", "beta"), join=("alpha", "beta"))
    with pytest.raises(RunFailedError, match=r"site (alpha|beta) refuses to run the campaign's code") as ended:
        federation.run(campaign)
    assert not (tmp_path / "ran").exists()
    refusing = "alpha" if "site alpha refuses" in ended.value.what else "beta"
    assert "refused the code of run" in (federation.folder / f"supernode-{refusing}.log").read_text()
    assert not campaign.merged.exists()


def test_a_revoked_sites_node_is_let_in_no_more(federation, tmp_path):
    home, site = federation.home, federation.new_site(tmp_path / "eve", "eve")
    roster.approve(home, site.request_path, site.request().fingerprint)
    superlink.register(home, site.request())
    roster.revoke(home, "eve")
    superlink.unregister(home, "eve")
    federation.start_node("eve-revoked", site)
    wait_for("refuses the key of site eve", federation.folder / "supernode-eve-revoked.log")
    federation.processes.kill("eve-revoked")


def test_a_site_whose_keys_have_a_passphrase_takes_part(federation, tmp_path):
    passphrase = keyfiles.new_passphrase()  # in the file that is named for the coordinator's
    site = federation.sites["zeta"] = federation.new_site(tmp_path / "zeta", "zeta", passphrase)
    superlink.register(federation.home, site.request())
    federation.start_node("zeta", site)
    try:
        campaign = federation.campaign(members=("zeta",), join=("zeta",), evaluate=False)
        federation.run(campaign)
    finally:
        federation.processes.kill("zeta")
        del federation.sites["zeta"]
    assert campaign.merged.exists()
    assert keyfiles.is_locked(site.node_key)
    assert keyfiles.is_locked(federation.home.keys / "signing.pem")


def test_a_node_that_trusts_another_authority_does_not_connect_and_is_named(federation, tmp_path):
    certificates.make(tmp_path / "other", ["127.0.0.1"])
    campaign = federation.campaign(patience_seconds=10, members=("alpha", "delta"), join=("alpha", "delta"))
    adapting.run(federation.sites["alpha"].joined())
    shutil.copy(tmp_path / "other" / "ca.crt", federation.sites["delta"].keys / "ca.crt")
    federation.start_node("delta")
    try:
        with pytest.raises(RunFailedError, match="site delta never connected"):
            federation.run(campaign)
    finally:
        federation.processes.kill("delta")
    assert "certificate" in (federation.folder / "supernode-delta.log").read_text().lower()


def test_a_coordinator_without_its_superlink_says_so(tmp_path, federation):
    home = Home.init(tmp_path / "c", hosts=("127.0.0.1",), control_port=free_port(), fleet_address="127.0.0.1:1")
    request = federation.sites["alpha"].request()
    home.create("lonely", federation.base, members={"alpha": request.keys}, rules=Rules())
    command = [sys.executable, "-m", "onebasin", "coordinator", "run", str(home.folder), "lonely"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 10
    assert "onebasin coordinator superlink" in done.stderr


def test_an_interrupted_run_is_stopped_and_its_end_is_written_down(federation):
    campaign = federation.campaign(members=("delta",), join=("delta",))  # it never connects, so the run waits
    command = [
        sys.executable,
        "-m",
        "onebasin",
        "coordinator",
        "run",
        str(federation.home.folder),
        campaign.path.name,
    ]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background of a shell, Ctrl-C is ignored, and that would be inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    until = time.monotonic() + 60
    while not federation.home.journal.last(campaign.key, "started"):
        assert time.monotonic() < until
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said.strip() == "interrupted"
    assert campaign.outcome()["exit_code"] == 130
