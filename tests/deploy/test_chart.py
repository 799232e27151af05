"""The Helm chart: what Helm's own engine renders it to, finds wrong with it, and refuses.

Where the engine is, it renders anew and must come to what is in rendered.yaml; where it isn't, the digest of the
chart's files proves that rendered.yaml is of the chart as it is today.
"""

from __future__ import annotations

import itertools
import json
import subprocess

import charts
import pytest
import yaml
from charts import ALL, CHART, LEAST

from protos import keyfiles

WARNING = 2


@pytest.fixture(scope="module")
def helm():
    """Return Helm's engine."""
    return pytest.importorskip("helm_python", reason="Helm's engine is not installed: pip install helm-python-sdk")


@pytest.fixture(scope="module")
def rendered():
    """Return the manifests of all values, by their kinds."""
    return {found["kind"]: found for found in charts.documents()["all"]}


@pytest.fixture(scope="module")
def least():
    """Return the manifests of the fewest values, by their kinds."""
    return {found["kind"]: found for found in charts.documents()["least"]}


def test_what_is_checked_here_is_of_the_chart_as_it_is():
    said = charts.RENDERED.read_text().splitlines()[1]
    assert said == f"# of: {charts.digest()}", "render it again: python tests/support/charts.py"


def test_helm_renders_the_same(helm):
    assert charts.documents() == {"all": charts.render(ALL), "least": charts.render(LEAST)}


@pytest.mark.parametrize("values", [ALL, LEAST])
def test_helm_finds_nothing_wrong(helm, values):
    found = helm.lint(CHART, values, strict=True)
    assert not found["errors"]
    assert not [message for message in found["messages"] if message["severity"] >= WARNING]
    for path, text in helm.Chart.load(CHART).render(values).items():
        assert not [line for line in text.splitlines() if line and not line.strip()], path


def test_it_is_one_pod_with_a_disk_a_service_and_a_policy(rendered):
    assert set(rendered) == {"StatefulSet", "Service", "NetworkPolicy"}
    assert rendered["StatefulSet"]["spec"]["replicas"] == 1
    (claim,) = rendered["StatefulSet"]["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "200Gi"


def test_selectors_find_the_pod(rendered):
    labels = rendered["StatefulSet"]["spec"]["template"]["metadata"]["labels"].items()
    for chosen in (
        rendered["StatefulSet"]["spec"]["selector"]["matchLabels"],
        rendered["Service"]["spec"]["selector"],
        rendered["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ):
        assert chosen
        assert chosen.items() <= labels


def test_the_fleet_api_is_all_that_can_be_reached(rendered):
    (port,) = rendered["Service"]["spec"]["ports"]
    assert port == {"name": "fleet", "port": 9443, "targetPort": "fleet", "protocol": "TCP", "nodePort": 30443}
    policy = rendered["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["egress"] == []
    (rule,) = policy["ingress"]
    assert rule["ports"] == [{"port": "fleet", "protocol": "TCP"}]
    assert rule["from"] == [{"ipBlock": {"cidr": "192.0.2.0/24"}}]
    (container,) = rendered["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    assert container["ports"] == [{"name": "fleet", "containerPort": 9443, "protocol": "TCP"}]


def test_the_pod_is_confined(rendered):
    pod = rendered["StatefulSet"]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] == context["runAsGroup"] == context["fsGroup"] == 10001
    # At each start it would let the group read the private keys, which are refused then.
    assert context["fsGroupChangePolicy"] == "OnRootMismatch"
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in [*pod["initContainers"], *pod["containers"]]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= set(container["resources"]["limits"])
        assert "@sha256:" in container["image"]
    assert {kind for volume in pod["volumes"] for kind in volume} == {"name", "emptyDir", "secret"}


def test_the_commands_of_the_pod_exist(rendered, understood):
    pod = rendered["StatefulSet"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    understood(container["args"])
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        command = container[probe]["exec"]["command"]
        assert command[0] == "onebasin"
        understood(command[1:])
        assert container[probe]["timeoutSeconds"] >= 5
    # A restart ends a run: only a program that answers nothing is restarted, not one whose certificate ended.
    assert container["livenessProbe"]["exec"]["command"][-1] == "--live"
    assert container["readinessProbe"]["exec"]["command"][-1] != "--live"


def test_the_first_start_makes_the_coordinator_and_the_next_ones_do_not(rendered, tmp_path, understood):
    (init,) = rendered["StatefulSet"]["spec"]["template"]["spec"]["initContainers"]
    shell, option, script, name, *arguments = init["command"]
    assert (shell, option) == ("sh", "-c")
    understood(["coordinator", "init", *arguments])
    assert arguments[arguments.index("--listen") + 1] == "0.0.0.0:9443"
    assert [after for before, after in itertools.pairwise(arguments) if before == "--host"] == [
        "merge.example",
        "192.0.2.7",
    ]
    # The script itself, with a program that says how it was called.
    program = tmp_path / "onebasin"
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)
    folder = tmp_path / "data" / "coordinator"
    folder.mkdir(parents=True)
    command = [shell, option, script.replace("/data", str(tmp_path / "data")), name, *arguments]
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    first = subprocess.run(command, env=path, capture_output=True, text=True, check=True)
    assert first.stdout.split() == ["coordinator", "init", *arguments]
    (folder / "coordinator.toml").touch()
    second = subprocess.run(command, env=path, capture_output=True, text=True, check=True)
    assert second.stdout == ""


def test_the_passphrase_is_a_file_that_the_code_reads(rendered):
    pod = rendered["StatefulSet"]["spec"]["template"]["spec"]
    (secret,) = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
    assert secret["defaultMode"] == 0o440  # root's, lent to the group: what the code takes from Kubernetes
    for container in [*pod["initContainers"], *pod["containers"]]:
        (variable,) = container["env"]
        assert variable["name"] == keyfiles.PASSPHRASE_FILE
        (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "passphrase"]
        assert variable["value"] == f"{mount['mountPath']}/{secret['items'][0]['path']}"
        assert mount["readOnly"] is True
    assert pod["initContainers"][0]["command"][-1] == "--passphrase"


def test_without_a_passphrase_the_keys_are_made_without_one(least):
    pod = least["StatefulSet"]["spec"]["template"]["spec"]
    assert not [volume for volume in pod["volumes"] if "secret" in volume]
    for container in [*pod["initContainers"], *pod["containers"]]:
        assert "env" not in container
    assert "--passphrase" not in pod["initContainers"][0]["command"]


def leaves(schema: dict, values: object, path: str = "") -> list[str]:
    """List the values that the schema does not describe."""
    properties = schema.get("properties")
    if properties is None or not isinstance(values, dict):
        return []
    unknown = [f"{path}.{key}" for key in values if key not in properties]
    return unknown + [
        name
        for key in values
        if key in properties
        for name in leaves(properties[key], values[key], f"{path}.{key}")
    ]


def test_the_schema_describes_every_value_and_no_other():
    schema = json.loads((CHART / "values.schema.json").read_text())
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    assert not leaves(schema, defaults)
    assert not leaves(schema, ALL)
    assert leaves(schema, {"service": {"controlPort": 1}}) == [".service.controlPort"]
    assert set(schema["properties"]) - {"global"} == set(defaults)
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"hosts": []}, "/hosts"),
        ({"service": {"type": "LoadBalancer", "port": 9093}}, "/service/port"),  # the Control API's
        ({"image": {"name": "x", "digest": "latest"}}, "/image/digest"),
        ({"resources": {"limits": None}}, "/resources': missing property 'limits'"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_values_that_make_no_sense_are_refused_by_name(helm, wrong, named):
    with pytest.raises(helm.HelmValuesError, match=named):
        charts.render(LEAST | wrong)
