"""The deployments of a stack from the first to its deletion, with SAM CLI and AWS CLI, in an emulated AWS account.

The tests run in this order. Each continues with the account that the one before has left, so make test-deploy stops at the first that fails.
"""

import json
import re
import subprocess
from collections import Counter

import pytest
from derive import CODEDEPLOY
from emulated import ARCH, Account, Project
from samlocal import FLOW, ROOT, Process
from stack import AUTHORIZER, DOMAIN, ISSUER, Stack

KEY = "0" * 39 + "a"
EVENTS = ROOT / "internal/tooling/deploy/events"
DEPLOYMENT = ROOT / "functions/start/docs/DEPLOYMENT.md"


@pytest.fixture(scope="module")
def account(tmp_path_factory):
    account = Account(tmp_path_factory.mktemp("account"))
    yield account
    account.stop()


@pytest.fixture(scope="module")
def incode(tmp_path_factory):
    """The URL of the stand-in for Incode, which accepts KEY alone."""
    tmp = tmp_path_factory.mktemp("incode")
    subprocess.run(["go", "build", "-o", tmp / "run", "./internal/tooling/run"], cwd=ROOT, check=True)
    server = Process(tmp / "log", tmp / "run", "standins", "-incode", "0", "-secrets", "0", "-key", KEY, ready="Incode listens")
    yield server.wait_for(r"Incode listens on (\S+)").group(1)
    server.stop()


@pytest.fixture(scope="module")
def project(account, incode, tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("project") / "omnistart", account)
    for section in ("default", "staging"):
        project.fill_in(section, AllowedConfigurationIds=FLOW, AllowedRedirectHosts="app.example.com", IncodeBaseUrl=incode, Architecture=ARCH)
    return project


@pytest.fixture(scope="module")
def at_first(account):
    """What the account held before the first deployment."""
    return account.inventory()


def outputs(account, stack="omnistart"):
    (described,) = account.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    assert described["StackStatus"] in ("CREATE_COMPLETE", "UPDATE_COMPLETE")
    return {o["OutputKey"]: o["OutputValue"] for o in described["Outputs"]}


def version(account):
    """The version that the alias points to."""
    return account.client("lambda").get_alias(FunctionName=function(account), Name="live")["FunctionVersion"]


def published(account, number):
    """Code and settings of a version, without what differs between any two versions."""
    configuration = account.client("lambda").get_function_configuration(FunctionName=function(account), Qualifier=number)
    return {k: v for k, v in configuration.items() if k not in ("Version", "FunctionArn", "RevisionId", "LastModified", "ResponseMetadata")}


def function(account):
    return outputs(account)["Alias"].removesuffix(":live")


def start(account, stack="omnistart", event="start-sigv4"):
    """Invokes the alias with an event of API Gateway. Returns the status and the decoded body."""
    answer = account.tmp / "answer.json"
    account.run("aws", "lambda", "invoke", "--function-name", outputs(account, stack)["Alias"], "--payload", f"fileb://{EVENTS}/{event}.json", answer)
    answer = json.loads(answer.read_text())
    return answer["statusCode"], json.loads(answer["body"])


def test_the_first_deployment(account, project, at_first):
    project.make("deploy", input="y\n")
    resources = account.client("cloudformation").describe_stack_resources(StackName="omnistart")["StackResources"]
    assert {r["ResourceStatus"] for r in resources} == {"CREATE_COMPLETE"}
    created = {(r["LogicalResourceId"], r["ResourceType"]) for r in resources if r["ResourceType"] != "AWS::Lambda::Version"}
    declared = {(name, r["Type"]) for name, r in Stack(AllowedConfigurationIds=FLOW).resources.items() if r["Type"] != "AWS::Lambda::Version"}
    assert created == {(name, kind) for name, kind in declared if name not in CODEDEPLOY}
    assert version(account) == "1"


def test_its_outputs_are_those_that_the_documents_name(account):
    table = DEPLOYMENT.read_text().partition("## Outputs\n")[2].partition("\n## ")[0]
    given = outputs(account)
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.M)) == given.keys() | {"DomainTarget"}
    assert re.fullmatch(r"https://\w+\.execute-api\.eu-west-1\.amazonaws\.com/omni/start", given["Url"])
    assert given["AuthMode"] == "sigv4"
    assert ("dashboard", given["DashboardUrl"].rpartition("/")[2]) in account.inventory()
    assert ("log group", given["LogGroup"]) in account.inventory()


def test_without_a_key_the_service_is_misconfigured(account):
    status, problem = start(account)
    assert (status, problem["type"]) == (500, "/problems/service-misconfigured")


def test_with_the_key_a_call_starts_a_session(account, project):
    assert "stored as version" in project.make("set-key", input=KEY + "\n")
    status, body = start(account)
    assert status == 200 and set(body) == {"token"}


def test_the_log_has_a_line_for_each_request(account, project, tmp_path):
    start(account)  # the emulator may read a line late; it writes it with the next request
    logs = Process(tmp_path / "logs", "make", "logs", cwd=project.folder, env=account.env, ready='"status": 200', seconds=60)
    logs.stop()
    requests = re.findall(r'"message": "request",.*?"status": (\d+),.*?"code": "([a-z-]+)"', logs.output(), re.S)
    assert requests[:2] == [("500", "service-misconfigured"), ("200", "ok")]
    assert KEY not in logs.output()


def test_deploying_the_same_again_changes_nothing(account, project):
    before = account.inventory()
    assert "No changes to deploy" in project.make("deploy", input="y\n")
    assert account.inventory() == before and version(account) == "1"


def test_a_changed_setting_of_the_function_takes_effect_in_a_new_version(account, project):
    project.fill_in("default", ReturnInterviewId="true")
    project.make("deploy", input="y\n")
    assert version(account) == "2"
    status, body = start(account)
    assert status == 200 and set(body) == {"token", "interviewId"}


def test_reserved_concurrency_can_change_alone(account, project):
    project.fill_in("default", ReservedConcurrency="20")
    project.make("deploy", input="y\n")
    assert version(account) == "3"
    # Lambda refuses a version that equals the last one. The emulator does not, so this test compares them.
    assert published(account, "3") != published(account, "2")


def test_the_endpoint_changes_from_sigv4_to_jwt(account, project):
    before = outputs(account)
    project.fill_in("default", **ISSUER)
    project.make("deploy", input="y\n")
    assert outputs(account) == before | {"AuthMode": "jwt"}
    assert start(account, event="start-jwt")[0] == 200


COOKIE = AUTHORIZER | {"AuthorizerIdentitySource": "$request.header.Cookie"}


def test_the_endpoint_changes_from_jwt_to_an_authorizer(account, project):
    before = outputs(account)
    project.fill_in("default", **dict.fromkeys(ISSUER), **COOKIE)
    project.make("deploy", input="y\n")
    assert outputs(account) == before | {"AuthMode": "authorizer"}
    resources = account.client("cloudformation").describe_stack_resources(StackName="omnistart")["StackResources"]
    assert "AuthorizerPermission" in {r["LogicalResourceId"] for r in resources}
    parameters = account.client("cloudformation").describe_stacks(StackName="omnistart")["Stacks"][0]["Parameters"]
    assert {"ParameterKey": "AuthorizerIdentitySource", "ParameterValue": COOKIE["AuthorizerIdentitySource"]} in parameters
    assert start(account, event="start-authorizer")[0] == 200


def test_a_line_commented_out_restores_the_default(account, project):
    before, held = outputs(account), account.inventory()
    project.fill_in("default", **DOMAIN)
    project.make("deploy", input="y\n")
    assert outputs(account).keys() - before.keys() == {"DomainTarget"}
    assert outputs(account)["Url"] == "https://start.example.com/omni/start"
    assert account.inventory() - held == {("domain", "start.example.com")}
    project.fill_in("default", **dict.fromkeys(DOMAIN | COOKIE))
    project.make("deploy", input="y\n")
    assert outputs(account) == before | {"AuthMode": "sigv4"}
    assert account.inventory() == held


def test_the_alias_moved_back_restores_the_old_setting(account):
    operations = (ROOT / "functions/start/docs/OPERATIONS.md").read_text()
    (command,) = re.findall(r"^ *(aws lambda update-alias .+)$", operations, re.M)
    account.run(*command.replace("<function>", function(account)).replace("<number>", "1").split())
    status, body = start(account)
    assert status == 200 and set(body) == {"token"}


def test_a_second_stack_beside_it(account, project):
    before = account.inventory()
    project.make("deploy", section="staging")
    assert account.inventory() > before
    one, two = outputs(account), outputs(account, "omnistart-staging")
    assert not {v for k, v in one.items() if k != "AuthMode"} & set(two.values()), "nothing is shared"
    assert start(account, "omnistart-staging")[0] == 500, "the key is its own"
    project.make("set-key", section="staging", input=KEY + "\n")
    assert start(account, "omnistart-staging")[0] == start(account)[0] == 200


def test_a_stack_from_the_address_that_make_package_prints(account, project):
    address = project.make("package").strip()
    parameters = [{"ParameterKey": k, "ParameterValue": v} for k, v in project.parameters().items()]
    cloudformation = "aws", "cloudformation"
    account.run(
        *cloudformation, "create-stack", "--stack-name", "elsewhere", "--template-url", address,
        "--parameters", json.dumps(parameters), "--capabilities", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND",
    )  # fmt: skip
    account.run(*cloudformation, "wait", "stack-create-complete", "--stack-name", "elsewhere")
    account.run(*outputs(account, "elsewhere")["SetKeyCommand"].split(), input=KEY)
    assert start(account, "elsewhere")[0] == 200
    account.run(*cloudformation, "delete-stack", "--stack-name", "elsewhere")
    account.run(*cloudformation, "wait", "stack-delete-complete", "--stack-name", "elsewhere")


def test_a_deleted_stack_leaves_only_its_secret(account, project, at_first):
    secret = outputs(account)["SecretArn"]
    project.make("delete", input="y\ny\n")
    assert start(account, "omnistart-staging")[0] == 200, "the other one stays"
    project.make("delete", section="staging", input="y\ny\n")
    left = account.inventory() - at_first
    assert Counter(kind for kind, name in left if "aws-sam-cli-managed-default" not in name) == {"secret": 3}
    assert account.client("secretsmanager").get_secret_value(SecretId=secret)["SecretString"] == KEY


def test_the_name_of_a_deleted_stack_can_be_used_again(account, project):
    project.make("deploy", input="y\n")
    assert version(account) == "1"
    assert start(account)[0] == 500, "the secret is a new one"
    project.make("set-key", input=KEY + "\n")
    assert start(account)[0] == 200
