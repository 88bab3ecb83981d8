"""The built function with moto in place of Secrets Manager: the secret is made, and rotated under the function."""

import json

import boto3
import pytest
from samlocal import FLOW, ROOT, Local, Process, free_port

OLD, NEW = "0" * 39 + "a", "0" * 39 + "b"


def standins(log, port, key):
    """Incode's stand-in, accepting key; its Secrets Manager is not asked."""
    return Process(log, ROOT / ".build/run", "standins", "-addr", "0.0.0.0", "-incode", str(port), "-secrets", "0", "-key", key, ready="Incode listens")


@pytest.fixture
def moto(tmp_path):
    port = free_port()
    server = Process(tmp_path / "moto", "moto_server", "-H", "0.0.0.0", "-p", str(port), ready="Running on")
    server.port = port
    yield server
    server.stop()


def test_a_rotated_key_is_picked_up_without_a_restart(moto, tmp_path):
    secrets = boto3.client(
        "secretsmanager", endpoint_url=f"http://127.0.0.1:{moto.port}", region_name="us-east-1",
        aws_access_key_id="local", aws_secret_access_key="local",
    )  # fmt: skip
    # As the stack leaves it: made, without a value.
    arn = secrets.create_secret(Name="omnistart")["ARN"]

    incode_port = free_port()
    settings = json.loads((ROOT / "internal/tooling/deploy/local.json").read_text())
    settings["StartFunction"] |= {
        "AWS_ENDPOINT_URL_SECRETS_MANAGER": f"http://host.docker.internal:{moto.port}",
        "INCODE_API_KEY_SECRET_ID": arn,
        "INCODE_BASE_URL": f"http://host.docker.internal:{incode_port}",
    }
    (tmp_path / "env.json").write_text(json.dumps(settings))

    running, incode = [], None
    try:
        local = Local(tmp_path / "local", f"LOCAL_FLAGS=--env-vars {tmp_path}/env.json")
        running.append(local)
        incode = standins(tmp_path / "old", incode_port, OLD)
        running.append(incode)

        status, _, problem = local.post({"configurationId": FLOW})
        assert (status, problem["type"]) == (500, "/problems/service-misconfigured"), "the secret has no value yet"

        secrets.put_secret_value(SecretId=arn, SecretString=OLD)
        status, _, answer = local.post({"configurationId": FLOW})
        assert status == 200 and answer["token"]

        # A rotation: the secret has the new key, then Incode stops accepting the old one.
        secrets.put_secret_value(SecretId=arn, SecretString=json.dumps({"apiKey": NEW}))
        incode.stop()
        incode = standins(tmp_path / "new", incode_port, NEW)
        running.append(incode)
        status, _, answer = local.post({"configurationId": FLOW})
        assert status == 200 and answer["token"]

        assert [line["coldStart"] for line in local.request_lines(3)] == [True, False, False], "one process answered all"
        assert not {OLD, NEW} & set(local.output().split('"'))
    finally:
        for process in reversed(running):
            process.stop()
