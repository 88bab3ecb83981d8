"""Compares the contract with the template, with itself, and with the function that make run serves."""

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
DOCUMENT = ROOT / "functions/start/docs/openapi.json"
CONTRACT = json.loads(DOCUMENT.read_text())
((PATH, ITEM),) = CONTRACT["paths"].items()
((METHOD, OPERATION),) = ITEM.items()


class Loader(yaml.SafeLoader):
    """Reads CloudFormation's short forms as their argument."""


def construct(loader, _, node):
    return loader.construct_scalar(node) if node.id == "scalar" else getattr(loader, f"construct_{node.id}")(node, True)


Loader.add_multi_constructor("!", construct)
API = yaml.load((ROOT / "template.yaml").read_text(), Loader)["Resources"]["Api"]["Properties"]  # noqa: S506


def valid(value, schema):
    # With the components, to which the schema refers.
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
    """Fails unless the contract contains this response."""
    response = OPERATION["responses"][str(status)]
    valid(body, response["content"][headers["Content-Type"]]["schema"])
    if "type" in body:
        assert body["type"].removeprefix("/problems/") in response["content"]["application/problem+json"]["examples"]
        assert body["status"] == status
    ours = "type" in body or "token" in body  # otherwise API Gateway's
    schema = "Session" if "token" in body else "Problem" if ours else "Message"
    assert body.keys() <= CONTRACT["components"]["schemas"][schema]["properties"].keys(), "undocumented members"
    assert all(violation.keys() == {"pointer", "detail"} for violation in body.get("errors", []))
    for name, header in response["headers"].items():
        value = headers[name]
        if value is not None:
            valid(int(value) if header["schema"].get("type") == "integer" else value, header["schema"])
        # WWW-Authenticate is API Gateway's; its own responses have no request ID here.
        assert value is not None or not ours or name == "WWW-Authenticate", name
    assert ours or status != 401 or headers["WWW-Authenticate"]


def test_contract_is_an_openapi_document():
    validate(CONTRACT)
    assert CONTRACT["openapi"].startswith("3.1.")


def test_template_has_the_same_operation():
    template = API["DefinitionBody"]
    assert {p: list(i) for p, i in template["paths"].items()} == {PATH: [METHOD]}
    schemes = template["components"]["securitySchemes"]
    theirs, ours = schemes["AWS_IAM"], CONTRACT["components"]["securitySchemes"]["sigv4"]
    assert {k: ours[k] for k in theirs} == theirs
    assert schemes["Jwt"][1]["x-amazon-apigateway-authorizer"]["type"] == "jwt"
    assert schemes["Authorizer"][1]["x-amazon-apigateway-authorizer"]["type"] == "request"
    assert ours.keys() - theirs == {"description"}
    ((if_jwt, jwt, (if_authorizer, authorizer, otherwise)),) = template["paths"][PATH][METHOD]["security"]
    assert (if_jwt, if_authorizer) == ("UseJwt", "UseAuthorizer")
    assert [list(a) for a in (jwt, authorizer, otherwise)] == [["Jwt"], ["Authorizer"], ["AWS_IAM"]]
    assert CONTRACT["security"] == [{"jwt": []}, {"authorizer": []}, {"sigv4": []}] and "security" not in OPERATION
    cors = API["CorsConfiguration"][1]
    assert [m.lower() for m in cors["AllowMethods"]] == [METHOD]
    assert cors["AllowHeaders"][2] == ["authorization", "content-type"]  # without further ones
    headers = {name.lower() for name in OPERATION["responses"]["503"]["headers"]}
    assert headers - {"cache-control"} == set(cors["ExposeHeaders"])


EXAMPLES = [
    (status, media["schema"], example)
    for status, response in OPERATION["responses"].items()
    for media in response["content"].values()
    for example in [e["value"] for e in media.get("examples", {}).values()] + [v for k, v in media.items() if k == "example"]
]


@pytest.mark.parametrize(("status", "schema", "example"), EXAMPLES)
def test_each_example_of_a_response_is_valid(status, schema, example):
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


PROBLEMS = {
    code: example["value"]
    for response in OPERATION["responses"].values()
    for code, example in response["content"].get("application/problem+json", {}).get("examples", {}).items()
}
# The body and the headers of a request that provokes each.
PROVOKED = {
    "invalid-json": ('{"configurationId":', {}),
    "configuration-not-allowed": ({"configurationId": "f" * 24}, {}),
    "customer-mismatch": ({"configurationId": FLOW, "externalCustomerId": "a"}, {"X_Local_Claims": '{"sub":"b"}'}),
    "customer-unusable": ({"configurationId": FLOW}, {"X_Local_Authorizer": '{"sub":["b"]}'}),
    "body-too-large": (" " * (8 << 10) + "{", {}),
    "unsupported-media-type": ({"configurationId": FLOW}, {"Content_Type": "text/plain"}),
    "validation-failed": ({"configurationId": FLOW, "countryCode": "Germany"}, {}),
} | {
    code: ({"configurationId": flow.rjust(24, "0")}, {})
    for code, flow in {
        "incode-rejected": "0400", "incode-unauthorized": "0401", "incode-forbidden": "f403",
        "incode-throttled": "0429", "incode-failed": "0500",
        "incode-timeout": "0504", "outcome-unknown": "dead", "incode-invalid-response": "bad0",
    }.items()
}  # fmt: skip


@pytest.mark.parametrize("code", PROVOKED)
def test_each_example_of_a_problem_is_a_response_of_the_function(code):
    body, headers = PROVOKED[code]
    status, headers, problem = send("POST", PATH, body, **headers)
    documented(status, headers, problem)
    example = PROBLEMS[code]
    assert problem | {"requestId": ""} == example | {"requestId": ""}
    assert problem["requestId"] and status == example["status"]
    assert headers["Retry-After"] == {"incode-throttled": "7"}.get(code)


def test_every_problem_is_provoked_here_or_by_a_go_test():
    # examples_test.go in functions/start provokes the first five. Behind API Gateway nothing provokes the others.
    elsewhere = {"internal", "caller-not-allowed", "service-misconfigured", "secret-unavailable", "incode-unavailable"}
    assert PROBLEMS.keys() - PROVOKED - {"not-found"} == elsewhere


@pytest.mark.parametrize(
    ("method", "path", "claims", "want"),
    [("POST", PATH, "nonsense", 401), ("GET", PATH, "{}", 404), ("POST", "/start", "{}", 404)],
)
def test_each_example_of_api_gateway_is_its_response(method, path, claims, want):
    status, headers, answer = send(method, path, {"configurationId": FLOW}, X_Local_Claims=claims)
    assert status == want
    documented(status, headers, answer)
    assert answer == OPERATION["responses"][str(want)]["content"]["application/json"]["example"]


def test_each_type_is_the_path_of_its_entry_in_the_catalogue():
    page = (ROOT / "functions/start/docs/PROBLEMS.md").read_text()
    types = CONTRACT["components"]["schemas"]["Problem"]["properties"]["type"]["anyOf"][0]["enum"]
    assert sorted(types) == sorted("/problems/" + code for code in re.findall(r"^## ([a-z-]+)$", page, re.M))
    for path in types:
        with urllib.request.urlopen(URL + path, timeout=60) as response:
            assert f'<h2 id="{path.removeprefix("/problems/")}">' in response.read().decode()


DOCUMENTS = "\n".join(p.read_text() for p in [ROOT / "README.md", *(ROOT / "functions/start/docs").glob("*.md")])


def table(header):
    """Returns the cells of the documents' one table with this header."""
    _, rows = DOCUMENTS.split(f"{header}\n")
    return [[c.strip() for c in row.strip("|").split(" | ")] for row in rows.split("\n\n", 1)[0].splitlines()[1:]]


# Requests of clients of Incode's sample servers or of Incode itself, by the beginning of the documented row.
OLD = {
    "`GET /start`": ("GET", "/start", None, {}),
    "`GET /omni/start`": ("GET", PATH, None, {}),
    "the server's `.env` names the flow": ("POST", PATH, {}, {}),
    "`x-api-key`, `api-version`": ("POST", PATH, {"configurationId": FLOW}, {"x_api_key": "x", "api_version": "1.0"}),
    "`interviewId` in the body": ("POST", PATH, {"configurationId": FLOW, "interviewId": "6a0f3c9d"}, {}),
    "`uuid` in the body": ("POST", PATH, {"configurationId": FLOW, "uuid": "6a0f3c9d"}, {}),
    "`externalId`": ("POST", PATH, {"configurationId": FLOW, "externalId": "customer-42"}, {}),
    "`flowId`": ("POST", PATH, {"flowId": FLOW}, {}),
    "`redirectUrl`": ("POST", PATH, {"configurationId": FLOW, "redirectUrl": "https://app.example.com/done"}, {}),
    "`null`": ("POST", PATH, {"configurationId": FLOW, "language": None, "externalCustomerId": None, "customFields": None}, {}),
    "`language`": ("POST", PATH, {"configurationId": FLOW, "language": "es"}, {}),
    "numbers and booleans": ("POST", PATH, {"configurationId": FLOW, "customFields": {"age": 30, "vip": True}}, {}),
    "`customFields`": ("POST", PATH, {"configurationId": FLOW, "customFields": {"plan": "gold"}}, {"X_Local_Claims": '{"sub":"customer-7"}'}),
    "any other field": ("POST", PATH, {"configurationId": FLOW, "apiKey": "x"}, {}),
    "all fields of Incode's response": ("POST", PATH, {"configurationId": FLOW}, {}),
    "200 with a null token": ("POST", PATH, {"configurationId": "bad1".rjust(24, "0")}, {}),
    "`GET /onboarding-url`": ("GET", "/onboarding-url", None, {}),
}
ROWS = {before: told for before, _, told in table("| before | now | response to the old request |") if told}


def test_each_row_about_old_clients_is_tried():
    assert [next((o for o in OLD if row.startswith(o)), row) for row in ROWS] == list(OLD)


@pytest.mark.parametrize("row", OLD)
def test_response_to_an_old_client_says_what_to_change(row):
    (told,) = [told for before, told in ROWS.items() if before.startswith(row)]
    want, code, hint, members = re.fullmatch(r'(\d{3}) (?:`([a-z-]+)`: "(.+)"|`(\{.+\})`)', told).groups()
    method, path, body, headers = OLD[row]
    status, headers, answer = send(method, path, body, **headers)
    documented(status, headers, answer)
    assert str(status) == want
    if code:
        assert answer["type"] == f"/problems/{code}" and hint in answer["detail"] + str(answer.get("errors"))
    else:
        assert list(answer) == list(json.loads(members))


def test_the_readme_lists_the_fields():
    schema = CONTRACT["components"]["schemas"]["StartRequest"]
    fields = {name.strip("`"): text for name, text in table("| field | |")}
    assert fields.keys() == schema["properties"].keys()
    assert [name for name, text in fields.items() if text.endswith("; required")] == schema["required"]


def test_the_readme_has_the_example_of_a_problem():
    (example,) = re.findall(r'^```\n(\{"type":.*?)^```', DOCUMENTS, re.M | re.S)
    assert json.loads(example) == PROBLEMS["validation-failed"]


def test_the_catalogue_says_of_a_session_what_the_problem_says():
    entries = re.findall(r"^## ([a-z-]+)\n.*?^- Was a session started\? (\w+)", (ROOT / "functions/start/docs/PROBLEMS.md").read_text(), re.M | re.S)
    assert {code: answer.lower() for code, answer in entries} == {code: p["sessionStarted"] for code, p in PROBLEMS.items()}


FLOWS = [
    (suffix, status, code)
    for cell, _, told in table("| ID ends with | what Incode does | response |")
    for suffix in re.findall(r"`(\w{4})`", cell.replace("`bad0` to `bad3`", "`bad0` `bad1` `bad2` `bad3`"))
    for status, code in [re.fullmatch(r"(\d{3}) `([a-z-]+)`", told).groups()]
]


@pytest.mark.parametrize(("suffix", "want", "code"), FLOWS)
def test_the_flows_of_make_run_fail_as_documented(suffix, want, code):
    status, headers, problem = send("POST", PATH, {"configurationId": suffix.rjust(24, "0")})
    documented(status, headers, problem)
    assert (str(status), problem["type"]) == (want, f"/problems/{code}")


def test_the_python_client_works(tmp_path):
    tools = Path(sys.executable).parent
    generate = [tools / "openapi-python-client", "generate", "--path", DOCUMENT, "--output-path", tmp_path / "client"]
    env = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(tmp_path / "client")}
    subprocess.run([*generate, "--fail-on-warning"], check=True, env=env)
    run = [sys.executable, HERE / "client.py", URL, FLOW]
    check_output(subprocess.run(run, check=True, capture_output=True, text=True, env=env).stdout)


def test_the_typescript_client_works():
    build = Path(os.environ["OMNISTART_NODE"])
    subprocess.run(["npx", "openapi-typescript", DOCUMENT, "-o", "schema.d.ts"], check=True, cwd=build)
    subprocess.run(["npx", "tsc", "-p", "."], check=True, cwd=build)
    run = ["node", "client.js", URL, FLOW]
    check_output(subprocess.run(run, check=True, capture_output=True, text=True, cwd=build).stdout)


def check_output(output):
    result = json.loads(output)
    assert result.pop("token").startswith("eyJ")
    assert result == {"status": 403, "type": "/problems/customer-mismatch"}
