"""The contract against the template, against itself, and against the function that make run serves."""

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
URL = os.environ["OMNISTART_URL"]
FLOW = "6245f1e0c8d4b2a39e7f1c05"
CONTRACT = json.loads((ROOT / "functions/start/docs/openapi.json").read_text())
((PATH, ITEM),) = CONTRACT["paths"].items()
((METHOD, OPERATION),) = ITEM.items()


class Loader(yaml.SafeLoader):
    """Reads CloudFormation's short forms as their argument."""


Loader.add_multi_constructor("!", lambda loader, _, node: getattr(loader, f"construct_{node.id}")(node, *([True] if node.id != "scalar" else [])))
API = yaml.load((ROOT / "template.yaml").read_text(), Loader)["Resources"]["Api"]["Properties"]  # noqa: S506


def valid(value, schema):
    # The components come along, so that references are found.
    Draft202012Validator(schema | {"components": CONTRACT["components"]}).validate(value)


def send(method, path, body=None, **headers):
    """Returns status, headers and the decoded body. A string is sent as it is."""
    data = None if body is None else (body if isinstance(body, str) else json.dumps(body)).encode()
    headers = {"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
    try:
        response = urllib.request.urlopen(urllib.request.Request(URL + path, data, headers, method=method), timeout=60)
    except urllib.error.HTTPError as error:
        response = error
    with response:
        return response.status, response.headers, json.load(response)


def documented(status, headers, body):
    """Fails unless the contract has this answer."""
    response = OPERATION["responses"][str(status)]
    valid(body, response["content"][headers["Content-Type"]]["schema"])
    if "type" in body:
        assert body["type"].removeprefix("/problems/") in response["content"]["application/problem+json"]["examples"]
        assert body["status"] == status
    ours = "type" in body or "token" in body  # or API Gateway's own
    schema = "Session" if "token" in body else "Problem" if ours else "Message"
    assert body.keys() <= CONTRACT["components"]["schemas"][schema]["properties"].keys(), "a member that no client knows of"
    assert all(violation.keys() == {"pointer", "detail"} for violation in body.get("errors", []))
    for name, header in response["headers"].items():
        value = headers[name]
        if value is not None:
            valid(int(value) if header["schema"].get("type") == "integer" else value, header["schema"])
        # WWW-Authenticate is API Gateway's; what it refuses by itself has no ID here.
        assert value is not None or not ours or name == "WWW-Authenticate", name
    assert ours or status != 401 or headers["WWW-Authenticate"]


def test_it_is_an_openapi_document():
    validate(CONTRACT)
    assert CONTRACT["openapi"].startswith("3.1.")


def test_the_template_serves_the_same_operation():
    template = API["DefinitionBody"]
    assert {p: list(i) for p, i in template["paths"].items()} == {PATH: [METHOD]}
    schemes = template["components"]["securitySchemes"]
    theirs, ours = schemes["AWS_IAM"], CONTRACT["components"]["securitySchemes"]["sigv4"]
    assert {k: ours[k] for k in theirs} == theirs
    assert schemes["Jwt"][1]["x-amazon-apigateway-authorizer"]["type"] == "jwt" and ours.keys() - theirs == {"description"}
    ((condition, *alternatives),) = template["paths"][PATH][METHOD]["security"]
    assert condition == "UseJwt" and [list(a) for a in alternatives] == [["Jwt"], ["AWS_IAM"]]
    assert CONTRACT["security"] == [{"jwt": []}, {"sigv4": []}] and "security" not in OPERATION
    cors = API["CorsConfiguration"][1]
    assert [m.lower() for m in cors["AllowMethods"]] == [METHOD]
    assert {"authorization", "content-type"} <= set(cors["AllowHeaders"])
    assert {h.lower() for h in OPERATION["responses"]["503"]["headers"]} - {"cache-control"} == set(cors["ExposeHeaders"])


EXAMPLES = [
    (status, media["schema"], example)
    for status, response in OPERATION["responses"].items()
    for media in response["content"].values()
    for example in [e["value"] for e in media.get("examples", {}).values()] + ([media["example"]] if "example" in media else [])
]


@pytest.mark.parametrize(("status", "schema", "example"), EXAMPLES)
def test_each_example_of_an_answer_is_valid(status, schema, example):
    valid(example, schema)
    assert example.get("status", int(status)) == int(status)


BODY = OPERATION["requestBody"]["content"]["application/json"]


@pytest.mark.parametrize("name", BODY["examples"])
def test_each_example_of_a_request_starts_a_session(name):
    body = BODY["examples"][name]["value"]
    valid(body, BODY["schema"])
    status, headers, answer = send("POST", PATH, body)
    assert status == 200, answer
    documented(status, headers, answer)


PROBLEMS = {code: e["value"] for r in OPERATION["responses"].values() for code, e in r["content"].get("application/problem+json", {}).get("examples", {}).items()}
# What provokes each: method, path, body and headers.
PROVOKED = {
    "invalid-json": ("POST", PATH, '{"configurationId":"x","configurationId":"x"}', {}),
    "configuration-not-allowed": ("POST", PATH, {"configurationId": "f" * 24}, {}),
    "customer-mismatch": ("POST", PATH, {"configurationId": FLOW, "externalCustomerId": "a"}, {"X_Local_Claims": '{"sub":"b"}'}),
    "not-found": ("POST", "/start", {"configurationId": FLOW}, {}),
    "method-not-allowed": ("PUT", PATH, {"configurationId": FLOW}, {}),
    "body-too-large": ("POST", PATH, " " * (8 << 10) + "{", {}),
    "unsupported-media-type": ("POST", PATH, {"configurationId": FLOW}, {"Content_Type": "text/plain"}),
    "validation-failed": ("POST", PATH, {"configurationId": FLOW, "countryCode": "Germany"}, {}),
} | {
    code: ("POST", PATH, {"configurationId": flow.rjust(24, "0")}, {})
    for code, flow in {
        "incode-rejected": "0400", "incode-unauthorized": "0401", "incode-throttled": "0429", "incode-failed": "0500",
        "incode-timeout": "0504", "outcome-unknown": "dead", "incode-invalid-response": "bad0",
    }.items()
}  # fmt: skip


@pytest.mark.parametrize("code", PROVOKED)
def test_each_example_of_a_problem_is_what_the_function_answers(code):
    method, path, body, headers = PROVOKED[code]
    status, headers, problem = send(method, path, body, **headers)
    documented(status, headers, problem)
    example = PROBLEMS[code]
    assert problem | {"requestId": ""} == example | {"requestId": ""}
    assert problem["requestId"] and status == example["status"]
    assert headers["Retry-After"] == {"incode-throttled": "7"}.get(code)
    assert headers["Allow"] == {"method-not-allowed": "POST"}.get(code)


def test_no_example_is_left_out():
    # The last four need faults that make run does not have: TestExamplesThatMakeRunNeverGives provokes them.
    assert PROBLEMS.keys() - PROVOKED == {"internal", "service-misconfigured", "secret-unavailable", "incode-unavailable"}


def test_the_example_of_api_gateway_s_own_answer():
    status, headers, answer = send("POST", PATH, {"configurationId": FLOW}, X_Local_Claims="nonsense")
    documented(status, headers, answer)
    assert answer == OPERATION["responses"]["401"]["content"]["application/json"]["example"]


def test_each_type_leads_to_its_entry_in_the_catalogue():
    page = (ROOT / "functions/start/docs/PROBLEMS.md").read_text()
    types = CONTRACT["components"]["schemas"]["Problem"]["properties"]["type"]["anyOf"][0]["enum"]
    assert sorted(types) == sorted("/problems/" + code for code in re.findall(r"^## ([a-z-]+)$", page, re.M))
    for path in types:
        with urllib.request.urlopen(URL + path, timeout=60) as response:
            assert response.read().decode().startswith(f"# {path.removeprefix('/problems/')}\n")


README = (ROOT / "README.md").read_text()


def table(header):
    """Returns the cells of the rows of the README's table with this first row."""
    _, rows = README.split(f"{header}\n", 1)
    return [[c.strip() for c in row.strip("|").split(" | ")] for row in rows.split("\n\n", 1)[0].splitlines()[1:]]


# What clients of Incode's sample servers, or of Incode itself, send: the README's rows by how they begin.
OLD = {
    "`GET /start`": ("GET", "/start", None, {}),
    "`GET /omni/start`": ("GET", PATH, None, {}),
    "the server's `.env` names the flow": ("POST", PATH, {}, {}),
    "`x-api-key`, `api-version`": ("POST", PATH, {"configurationId": FLOW, "countryCode": "ALL"}, {"x_api_key": "x", "api_version": "1.0"}),
    "`interviewId` in the body": ("POST", PATH, {"configurationId": FLOW, "interviewId": "6a0f3c9d1b2e4f5a6b7c8d9e"}, {}),
    "`uuid` in the body": ("POST", PATH, {"configurationId": FLOW, "uuid": "6a0f3c9d1b2e4f5a6b7c8d9e"}, {}),
    "`externalId`": ("POST", PATH, {"configurationId": FLOW, "externalId": "customer-42"}, {}),
    "any other field": ("POST", PATH, {"configurationId": FLOW, "apiKey": "x"}, {}),
    "all that Incode answers": ("POST", PATH, {"configurationId": FLOW}, {}),
    "200 with a null token": ("POST", PATH, {"configurationId": "bad1".rjust(24, "0")}, {}),
    "`GET /onboarding-url`": ("GET", "/onboarding-url", None, {}),
}
ROWS = {before: told for before, _, told in table("| before | now | the old request is answered |") if told}


def test_each_row_of_moving_over_is_tried():
    assert [next((o for o in OLD if row.startswith(o)), row) for row in ROWS] == list(OLD)


@pytest.mark.parametrize("row", OLD)
def test_an_old_client_is_told_what_to_change(row):
    (told,) = [told for before, told in ROWS.items() if before.startswith(row)]
    want, code, hint = re.fullmatch(r'(\d{3})(?: `([a-z-]+)`: "(.+)"| `{"token": "…"}`)', told).groups()
    method, path, body, headers = OLD[row]
    status, headers, answer = send(method, path, body, **headers)
    documented(status, headers, answer)
    assert str(status) == want
    if code:
        assert answer["type"] == f"/problems/{code}" and hint in answer["detail"] + str(answer.get("errors"))
    else:
        assert list(answer) == ["token"]


FLOWS = [
    (suffix, status, code)
    for cell, _, told in table("| `configurationId` ends in (zeros before) | what Incode does | the answer |")
    for suffix in re.findall(r"`(\w{4})`", cell.replace("`bad0` to `bad3`", "`bad0` `bad1` `bad2` `bad3`"))
    for status, code in [re.fullmatch(r"(\d{3}) `([a-z-]+)`", told).groups()]
]


@pytest.mark.parametrize(("suffix", "want", "code"), FLOWS)
def test_the_flows_of_make_run_go_wrong_as_the_readme_says(suffix, want, code):
    status, headers, problem = send("POST", PATH, {"configurationId": suffix.rjust(24, "0")})
    documented(status, headers, problem)
    assert (str(status), problem["type"]) == (want, f"/problems/{code}")


def test_the_python_client_works(tmp_path):
    subprocess.run(
        [Path(sys.executable).with_name("openapi-python-client"), "generate", "--path", ROOT / "functions/start/docs/openapi.json", "--output-path", tmp_path / "client", "--fail-on-warning"],
        check=True, env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    run = [sys.executable, HERE / "client.py", URL, FLOW]
    works(subprocess.run(run, check=True, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(tmp_path / "client")}).stdout)


def test_the_typescript_client_works():
    build = Path(os.environ["OMNISTART_NODE"])
    for command in (["npx", "openapi-typescript", ROOT / "functions/start/docs/openapi.json", "-o", "schema.d.ts"], ["npx", "tsc", "-p", "."]):
        subprocess.run(command, check=True, cwd=build)
    works(subprocess.run(["node", "client.js", URL, FLOW], check=True, capture_output=True, text=True, cwd=build).stdout)


def works(output):
    result = json.loads(output)
    assert result.pop("token").startswith("eyJ")
    assert result == {"status": 403, "type": "/problems/customer-mismatch"}
