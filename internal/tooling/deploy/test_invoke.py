"""The checked-in events, through sam local invoke. Here alone do requests carry what API Gateway's authorizers add."""

import json
import platform
import subprocess

import pytest
from samlocal import ENV, ROOT, Process

EVENTS = {
    "start-sigv4": (200, None),
    "start-jwt": (200, None),
    "start-authorizer": (200, None),
    "customer-mismatch": (403, "customer-mismatch"),
    "not-allowed": (403, "configuration-not-allowed"),
    "payload-1.0": (500, "internal"),
}
ARCH = {"aarch64": "arm64", "arm64": "arm64"}.get(platform.machine(), "x86_64")


@pytest.fixture(scope="module", autouse=True)
def standins(tmp_path_factory):
    subprocess.run(["make", "build", f"ARCH={ARCH}"], cwd=ROOT, env=ENV, check=True, capture_output=True)
    subprocess.run(["go", "build", "-o", ".build/run", "./internal/tooling/run"], cwd=ROOT, check=True)
    running = Process(tmp_path_factory.mktemp("standins") / "log", ".build/run", "standins", "-addr", "0.0.0.0", ready="Secrets Manager listens")
    yield
    running.stop()


def test_every_event_is_invoked():
    assert {p.stem for p in (ROOT / "internal/tooling/deploy/events").iterdir()} == set(EVENTS)


def invoke(name):
    """Returns the response and the log. On a busy machine sam local may end before it has printed the log; then it is run again."""
    command = [
        "sam", "local", "invoke", "StartFunction", "--config-env", "local", "--skip-pull-image", "--event", f"internal/tooling/deploy/events/{name}.json",
        "--parameter-overrides", f"Architecture={ARCH}", "AllowedConfigurationIds=from-env-vars",
    ]  # fmt: skip
    credentials = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_REGION": "us-east-1"}
    for _ in range(5):
        result = subprocess.run(command, cwd=ROOT, env=ENV | credentials, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert result.returncode == 0, result.stderr
        if '"message":"request"' in result.stderr:
            break
    return json.loads(result.stdout), result.stderr


@pytest.mark.parametrize("name", EVENTS)
def test_event(name):
    status, code = EVENTS[name]
    answer, log = invoke(name)
    body = json.loads(answer["body"])
    assert answer["statusCode"] == status
    if code is None:
        assert set(body) == {"token"}
    else:
        assert body["type"] == f"/problems/{code}"
        assert f'"Code":"{code}"' in log, "what the alarms watch"
