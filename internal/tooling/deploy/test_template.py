"""The template, for every combination of its choices, after SAM's transform."""

import fnmatch
import json
import re

import botocore.session
import parliament
import pytest
from cfnlint.api import ManualArgs, lint
from stack import AUTHORIZER, CORS, ISSUER, LOG_KEY, PSEUDO, ROOT, SECRET, SECRET_KEY, SOURCE, Rejected, Stack, combinations



def allowed(name):
    """Whether the rules are to allow a combination of choices."""
    caller, *_, cors = name.split(", ")
    callers = {"CORS+cookies": {"authorizer", "cookie"}, "CORS": {"jwt", "jwt+scopes", "authorizer", "cookie"}}
    return caller != "jwt and authorizer" and caller in callers.get(cors, {caller})


COMBINATIONS = {name: parameters for name, parameters in combinations() if allowed(name)}
REFUSED = {name: parameters for name, parameters in combinations() if not allowed(name)}
IDS = {"AllowedConfigurationIds": "*"}
README, DOCS = ROOT / "README.md", ROOT / "functions/start/docs"


@pytest.fixture(scope="module", params=COMBINATIONS.values(), ids=COMBINATIONS.keys())
def stack(request):
    return Stack(**request.param)


@pytest.fixture(scope="module")
def plain():
    return Stack(**IDS)


def test_the_route_is_never_open(stack):
    body = stack.one("AWS::ApiGatewayV2::Api")["Body"]
    schemes = body["components"]["securitySchemes"]
    operations = [(path, method, op) for path, item in body["paths"].items() for method, op in item.items()]
    assert [(path, method) for path, method, _ in operations] == [("/omni/start", "post")]
    (requirement,) = operations[0][2]["security"]
    sigv4 = {"type": "apiKey", "name": "Authorization", "in": "header", "x-amazon-apigateway-authtype": "awsSigv4"}
    if stack.parameters["AuthorizerFunctionArn"]:
        assert requirement == {"Authorizer": []}
        assert schemes == {"AWS_IAM": sigv4, "Authorizer": schemes["Authorizer"]}
        assert schemes["Authorizer"]["x-amazon-apigateway-authorizer"] == {
            "type": "request",
            "identitySource": stack.parameters["AuthorizerIdentitySource"],
            "authorizerUri": f"arn:aws:apigateway:eu-west-1:lambda:path/2015-03-31/functions/{AUTHORIZER['AuthorizerFunctionArn']}/invocations",
            "authorizerPayloadFormatVersion": "2.0",
            "enableSimpleResponses": True,
            "authorizerResultTtlInSeconds": 0,
        }
        assert stack.outputs["AuthMode"] == "authorizer"
    elif stack.parameters["JwtIssuer"]:
        scopes = stack.parameters["JwtScopes"]
        assert requirement == {"Jwt": scopes.split(",") if scopes else []}
        assert schemes == {"AWS_IAM": sigv4, "Jwt": schemes["Jwt"]}
        authorizer = schemes["Jwt"]["x-amazon-apigateway-authorizer"]
        assert authorizer["type"] == "jwt"
        assert authorizer["jwtConfiguration"] == {
            "issuer": "https://login.example.com/",
            "audience": ["omnistart", "omnistart-beta"],
        }
        assert stack.outputs["AuthMode"] == "jwt"
    else:
        assert requirement == {"AWS_IAM": []}
        assert schemes == {"AWS_IAM": sigv4}
        assert stack.outputs["AuthMode"] == "sigv4"


@pytest.mark.parametrize("name", REFUSED)
def test_two_ways_to_authenticate_at_once_and_pages_without_a_customer_are_refused(name):
    with pytest.raises(Rejected, match="exclude each other|CorsOrigins needs|CorsCredentials needs"):
        Stack(**REFUSED[name])


@pytest.mark.parametrize("name", [name for name in COMBINATIONS if "CORS" in name.split(", ")[-1].split("+") and "both keys" in name])
def test_the_transformed_template_passes_lint(name):
    # With references, not values: in a branch that is not taken, an empty value would count as wrong.
    template = Stack(**COMBINATIONS[name]).transformed(SOURCE["Resources"])
    matches = lint(json.dumps(template), config=ManualArgs(regions=["eu-west-1"]))
    # W2001: the transform has put values where parameters were.
    assert [str(m) for m in matches if m.rule.id != "W2001"] == []


CHANGES = {
    "AllowedConfigurationIds": "6245f1e0c8d4b2a39e7f1c05",
    "IncodeBaseUrl": "https://saas-api.incodesmile.com",
    "IncodeApiKeySecretArn": SECRET,
    "IncodeApiKeyMaxAge": "1h",
    "AllowedRedirectHosts": "app.example.com",
    "AllowedCustomFields": "plan",
    "ReturnInterviewId": "true",
    "CustomerIdClaim": "email",
    "ReservedConcurrency": "5",
    "Architecture": "x86_64",
    "SystemLogLevel": "WARN",
}


def test_a_changed_parameter_of_the_function_makes_a_version_that_the_alias_moves_to(plain):
    function = SOURCE["Resources"]["StartFunction"]["Properties"]
    named = set(re.findall(r"'Ref': '(\w+)'", str([function[k] for k in ("Architectures", "Environment", "LoggingConfig")])))
    conditions = {"CreateSecret": "IncodeApiKeySecretArn"}
    assert (named & set(SOURCE["Parameters"])) | set(conditions.values()) == set(CHANGES)
    given = IDS | ISSUER  # which itself is no setting of the function
    versions = {name: set(Stack(**{**given, name: value}).of_type("AWS::Lambda::Version")) for name, value in CHANGES.items()}
    versions["nothing"] = set(plain.of_type("AWS::Lambda::Version"))
    assert len(set().union(*versions.values())) == len(versions), versions
    assert set(Stack(**given).of_type("AWS::Lambda::Version")) == versions["nothing"], "the same again is no change"


def test_a_setting_that_is_not_part_of_a_version_is_mirrored_in_the_environment(plain):
    """SAM's AutoPublishAliasAllProperties makes a version for each change of the function's properties. Lambda refuses a
    version that equals the last one, so the part of the function that a version holds must change with the rest."""
    lambda_api = botocore.session.get_session().get_service_model("lambda")
    held_by_a_version = set(lambda_api.shape_for("FunctionConfiguration").members)
    properties = SOURCE["Resources"]["StartFunction"]["Properties"]
    mirrored = parameters_of(properties["Environment"])
    function = Stack(**IDS, ReservedConcurrency="5").one("AWS::Lambda::Function")
    # The code's address changes with the code alone: see test_the_package_of_a_section_keeps_its_key.
    others = set(function) - held_by_a_version - {"Code"}
    assert others == {"ReservedConcurrentExecutions", "Tags"}, "does Lambda hold the new property in its versions?"
    for name in others & set(properties):
        assert parameters_of(properties[name]) and parameters_of(properties[name]) <= mirrored, name


def parameters_of(node):
    """The parameters that a part of the template depends on, directly or through a condition."""
    text = str(node)
    for name, condition in SOURCE["Conditions"].items():
        if f"'Fn::If': ['{name}'" in text:
            text += str(condition)
    return set(re.findall(r"'Ref': '(\w+)'", text)) & set(SOURCE["Parameters"])


def test_deletion_policies_are_accepted(stack):
    # AWS::LanguageExtensions refuses RetainExceptOnCreate when the change set is made; no linter sees it.
    for name, resource in [*SOURCE["Resources"].items(), *stack.template["Resources"].items()]:
        for policy in ("DeletionPolicy", "UpdateReplacePolicy"):
            assert resource.get(policy, "Delete") in {"Delete", "Retain", "Snapshot"}, name
    # What is kept cannot block a stack that is made again under the same name.
    kept = {r["Type"] for r in stack.template["Resources"].values() if r.get("DeletionPolicy") == "Retain"}
    assert kept == {"AWS::SecretsManager::Secret", "AWS::Lambda::Version"}
    assert "Name" not in SOURCE["Resources"]["ApiKeySecret"]["Properties"]


# The names that the template chooses. CloudFormation generates the others, so they are unique and short enough.
NAMES = {
    ("AccessLog", "LogGroupName"): ("/aws/vendedlogs/{stack}", 512),
    ("Api", "Body.info.title"): ("{stack}", 128),
    ("ApiApiGatewayDefaultStage", "StageName"): ("$default", 128),  # of the API
    ("Dashboard", "DashboardName"): ("{stack}-eu-west-1", 255),  # of the account, in all regions
    ("StartFunctionAliaslive", "Name"): ("live", 128),  # of the function
}


@pytest.mark.parametrize("stack_name", ["omnistart", "s" * 128], ids=["short", "longest"])
def test_no_name_is_taken_already_or_too_long(stack_name, monkeypatch):
    monkeypatch.setitem(PSEUDO, "AWS::StackName", stack_name)
    stack = Stack(**COMBINATIONS["jwt, mutual TLS, both keys, new secret, CORS"])
    chosen = {(r, p): v for r, resource in stack.resources.items() for p, v in resource["Properties"].items() if p.endswith("Name")}
    chosen["Api", "Body.info.title"] = stack.resources["Api"]["Properties"]["Body"]["info"]["title"]
    # The other properties that end in Name refer to something, or hold the operator's domain.
    references = {p for p in chosen if p[1] in {"MetricName", "DeploymentConfigName"} or str(chosen[p]).startswith("<")}
    own = {p: name for p, name in chosen.items() if p not in references | {("Domain", "DomainName")}}
    assert own == {k: name.format(stack=stack_name) for k, (name, _) in NAMES.items()}
    assert all(len(own[k]) <= longest for k, (_, longest) in NAMES.items())


def test_the_longest_lists_fit_into_the_environment():
    flows = ",".join(["6245f1e0c8d4b2a39e7f1c05"] * 100)
    hosts = ("a" * 59 + ".example.com,") * 12
    given = ISSUER | {
        "AllowedConfigurationIds": flows, "AllowedRedirectHosts": hosts[:600].rstrip(",."), "AllowedCustomFields": ("f" * 59 + ",") * 4 + "f" * 60,
        "IncodeApiKeySecretArn": SECRET.replace("incode", "i" * 60), "CustomerIdClaim": "c" * 100,
    }  # fmt: skip
    lists = ("AllowedConfigurationIds", "AllowedRedirectHosts", "AllowedCustomFields")
    assert [len(given[name]) for name in lists] == [2499, 600, 300]
    variables = Stack(**given, ReservedConcurrency="1000").one("AWS::Lambda::Function")["Environment"]["Variables"]
    assert len(json.dumps(variables, separators=(",", ":"))) <= 4096  # Lambda's quota, which it measures so
    for name in lists:
        with pytest.raises(Rejected, match="at most"):
            Stack(**{**given, name: given[name] + "," + given[name][:24]})


def test_a_warning_ends_the_import_of_the_api_and_none_is_known(stack):
    assert stack.resources["Api"]["Properties"]["FailOnWarnings"] is True
    body = stack.one("AWS::ApiGatewayV2::Api")["Body"]
    assert body["openapi"] and body["info"]["title"] and body["info"]["version"]
    assert all(server["url"] for server in body["servers"])


def test_no_parameter_lets_unauthenticated_requests_in(stack):
    assert SOURCE["Resources"]["StartFunction"]["Properties"]["Environment"]["Variables"]["ALLOW_UNAUTHENTICATED"] == "false"
    assert stack.one("AWS::Lambda::Function")["Environment"]["Variables"]["ALLOW_UNAUTHENTICATED"] == "false"


def test_sam_local_lets_unauthenticated_requests_in():
    local = json.loads((ROOT / "internal/tooling/deploy/local.json").read_text())["StartFunction"]
    assert local["ALLOW_UNAUTHENTICATED"] == "true"
    assert set(local) <= set(SOURCE["Resources"]["StartFunction"]["Properties"]["Environment"]["Variables"]), "sam local ignores the others"


def test_calls_are_traced(plain):
    assert plain.one("AWS::Lambda::Function")["TracingConfig"] == {"Mode": "Active"}


# One failure at night concerns one minute and sets off no alarm. A canary that fails all of its few calls does.
@pytest.mark.parametrize(
    ("minutes", "fires"),
    [([(1, 1), (0, 0), (0, 0)], False), ([(1, 1), (0, 0), (1, 1)], True), ([(10, 1), (10, 1), (10, 0)], True), ([(20, 1)] * 3, False), ([(100, 5)] * 3, False), ([(100, 6), (100, 6), (100, 0)], True)],
    ids=str,
)
def test_over_five_percent_of_server_errors_set_off_the_alarm(plain, minutes, fires):
    alarm = plain.resources["ServerErrors"]["Properties"]
    (expression,) = [m["Expression"] for m in alarm["Metrics"] if "Expression" in m]
    # Of a minute without calls there is no data, which does not breach (CloudWatch then looks further back than here).
    shares = [eval(expression, {"calls": calls, "errors": errors}) for calls, errors in minutes if calls]  # noqa: S307
    assert alarm["ComparisonOperator"] == "GreaterThanThreshold" and alarm["TreatMissingData"] == "notBreaching"
    assert alarm["EvaluationPeriods"] == len(minutes)
    assert (sum(s > alarm["Threshold"] for s in shares) >= alarm["DatapointsToAlarm"]) == fires


def test_only_the_api_may_call_the_function_and_only_by_its_alias(stack):
    (permission,) = (p for name, p in stack.of_type("AWS::Lambda::Permission").items() if name != "AuthorizerPermission")
    assert permission["FunctionName"] == "<StartFunctionAliaslive>"
    assert permission["Principal"] == "apigateway.amazonaws.com"
    assert permission["SourceArn"].endswith(":<Api>/*/POST/omni/start")
    integration = stack.one("AWS::ApiGatewayV2::Api")["Body"]["paths"]["/omni/start"]["post"]["x-amazon-apigateway-integration"]
    assert integration["uri"].endswith("/functions/<StartFunction.Arn>:live/invocations")
    assert integration["payloadFormatVersion"] == "2.0"
    assert not stack.of_type("AWS::Lambda::Url")


def test_the_api_may_call_the_authorizer_of_the_operator(stack):
    permission = stack.of_type("AWS::Lambda::Permission").get("AuthorizerPermission")
    assert permission == ({
        "Action": "lambda:InvokeFunction",
        "FunctionName": stack.parameters["AuthorizerFunctionArn"],
        "Principal": "apigateway.amazonaws.com",
        "SourceArn": "arn:aws:execute-api:eu-west-1:123456789012:<Api>/authorizers/*",
    } if stack.parameters["AuthorizerFunctionArn"] else None)  # fmt: skip


def test_the_role_holds_exactly_what_the_function_needs(stack):
    role = stack.resources["StartRole"]["Properties"]
    assert stack.one("AWS::Lambda::Function")["Role"] == "<StartRole.Arn>"
    assert "ManagedPolicyArns" not in role
    (policy,) = role["Policies"]
    secret = stack.parameters["IncodeApiKeySecretArn"] or "<ApiKeySecret>"
    want = [
        {"Effect": "Allow", "Action": ["logs:CreateLogStream", "logs:PutLogEvents"], "Resource": "<FunctionLog.Arn>"},
        {"Effect": "Allow", "Action": ["xray:PutTraceSegments", "xray:PutTelemetryRecords"], "Resource": "*"},
        {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": secret},
    ]
    if stack.parameters["SecretKmsKeyArn"]:
        via = {"StringEquals": {"kms:ViaService": "secretsmanager.eu-west-1.amazonaws.com"}}
        want.append({"Effect": "Allow", "Action": "kms:Decrypt", "Resource": SECRET_KEY, "Condition": via})
    assert policy["PolicyDocument"]["Statement"] == want
    # The other role is CodeDeploy's, made by SAM.
    assert set(stack.of_type("AWS::IAM::Role")) == {"StartRole", "CodeDeployServiceRole"}


def test_the_secret_is_given_or_made_empty_and_kept(stack):
    variables = stack.one("AWS::Lambda::Function")["Environment"]["Variables"]
    if stack.parameters["IncodeApiKeySecretArn"]:
        assert not stack.of_type("AWS::SecretsManager::Secret")
        assert variables["INCODE_API_KEY_SECRET_ID"] == stack.outputs["SecretArn"] == SECRET
    else:
        secret = stack.resources["ApiKeySecret"]
        assert secret["DeletionPolicy"] == "Retain" and secret["UpdateReplacePolicy"] == "Retain"
        assert not {"SecretString", "GenerateSecretString"} & set(secret["Properties"])
        assert secret["Properties"].get("KmsKeyId") == (stack.parameters["SecretKmsKeyArn"] or None)
        assert variables["INCODE_API_KEY_SECRET_ID"] == stack.outputs["SecretArn"] == "<ApiKeySecret>"
    assert f"--secret-id {stack.outputs['SecretArn']} " in stack.outputs["SetKeyCommand"]


def test_logs_are_kept_for_a_time_and_encrypted_on_demand(stack):
    logs = stack.of_type("AWS::Logs::LogGroup")
    assert set(logs) == {"FunctionLog", "AccessLog"}
    for log in logs.values():
        assert log["RetentionInDays"] == 90
        assert log.get("KmsKeyId") == (LOG_KEY if stack.parameters["LogKmsKeyArn"] else None)
    assert stack.one("AWS::Lambda::Function")["LoggingConfig"]["LogGroup"] == "<FunctionLog>"
    access = stack.one("AWS::ApiGatewayV2::Stage")["AccessLogSettings"]
    assert access["DestinationArn"] == "<AccessLog.Arn>"
    assert all(v.startswith("$context.") for v in json.loads(access["Format"]).values())


# What CloudFormation does for whoever deploys. AWS lists an action per handler in the schema of each type.
DEPLOYING = {
    "AWS::ApiGatewayV2::Api": "apigateway:POST apigateway:GET apigateway:PUT apigateway:PATCH apigateway:DELETE",
    "AWS::ApiGatewayV2::ApiMapping": "apigateway:POST apigateway:DELETE",
    "AWS::ApiGatewayV2::DomainName": "apigateway:POST apigateway:PATCH apigateway:DELETE iam:CreateServiceLinkedRole",
    "AWS::ApiGatewayV2::Stage": "apigateway:POST apigateway:PATCH logs:CreateLogDelivery logs:PutResourcePolicy logs:DescribeResourcePolicies logs:DescribeLogGroups",
    "AWS::CloudWatch::Alarm": "cloudwatch:PutMetricAlarm cloudwatch:DescribeAlarms cloudwatch:DeleteAlarms",
    "AWS::CloudWatch::Dashboard": "cloudwatch:PutDashboard cloudwatch:GetDashboard cloudwatch:DeleteDashboards",
    "AWS::CodeDeploy::Application": "codedeploy:CreateApplication codedeploy:GetApplication codedeploy:DeleteApplication",
    "AWS::CodeDeploy::DeploymentGroup": "codedeploy:CreateDeploymentGroup codedeploy:UpdateDeploymentGroup codedeploy:DeleteDeploymentGroup iam:PassRole",
    "AWS::IAM::Role": "iam:CreateRole iam:GetRole iam:PutRolePolicy iam:AttachRolePolicy iam:DetachRolePolicy iam:DeleteRolePolicy iam:DeleteRole",
    "AWS::Lambda::Alias": "lambda:CreateAlias lambda:UpdateAlias lambda:GetAlias lambda:DeleteAlias codedeploy:CreateDeployment codedeploy:GetDeployment codedeploy:StopDeployment",
    "AWS::Lambda::Function": "lambda:CreateFunction lambda:GetFunction lambda:UpdateFunctionCode lambda:UpdateFunctionConfiguration lambda:PutFunctionConcurrency lambda:DeleteFunctionConcurrency lambda:TagResource lambda:DeleteFunction iam:PassRole s3:GetObject",
    "AWS::Lambda::Permission": "lambda:AddPermission lambda:GetPolicy lambda:RemovePermission",
    "AWS::Lambda::Version": "lambda:PublishVersion lambda:GetFunctionConfiguration",
    "AWS::Logs::LogGroup": "logs:CreateLogGroup logs:PutRetentionPolicy logs:DescribeLogGroups logs:AssociateKmsKey logs:DisassociateKmsKey logs:DeleteLogGroup",
    "AWS::SecretsManager::Secret": "secretsmanager:CreateSecret secretsmanager:DescribeSecret secretsmanager:UpdateSecret",
}


def test_the_policy_of_whoever_deploys_is_valid_and_covers_every_resource(stack):
    text = (ROOT / "functions/start/docs/deployer-policy.json").read_text()
    # The one form of ARN that Parliament does not know: transforms belong to AWS, not to an account.
    unknown = [f for f in parliament.analyze_policy_string(text).findings if f.issue != "INVALID_ARN" or ":aws:transform/" not in f.location["string"]]
    assert unknown == []
    assert len(json.dumps(json.loads(text), separators=(",", ":"))) <= 6144  # IAM's quota for a managed policy
    statements = json.loads(text)["Statement"]
    allowed = [a for s in statements for a in ([s["Action"]] if isinstance(s["Action"], str) else s["Action"])]
    for kind in {r["Type"] for r in stack.resources.values()}:
        missing = [a for a in DEPLOYING[kind].split() if not any(fnmatch.fnmatchcase(a, pattern) for pattern in allowed)]
        assert not missing, kind
    # It may store the key, not read it.
    assert not {a for a in allowed if fnmatch.fnmatchcase("secretsmanager:GetSecretValue", a)}


def test_a_custom_domain_closes_the_address_of_the_api(stack):
    (server,) = stack.one("AWS::ApiGatewayV2::Api")["Body"]["servers"]
    # False, and not left out: the next import would perhaps leave the address closed after the domain is gone.
    assert server["x-amazon-apigateway-endpoint-configuration"] == {"disableExecuteApiEndpoint": bool(stack.parameters["DomainName"])}
    if stack.parameters["DomainName"]:
        assert stack.outputs["Url"] == "https://start.example.com/omni/start"
        domain = stack.one("AWS::ApiGatewayV2::DomainName")
        want = {"TruststoreUri": "s3://bucket/ca.pem"} if stack.parameters["TruststoreUri"] else None
        assert domain.get("MutualTlsAuthentication") == want
        assert stack.one("AWS::ApiGatewayV2::ApiMapping")["Stage"] == "<ApiApiGatewayDefaultStage>"
    else:
        assert stack.outputs["Url"] == "https://<Api>.execute-api.eu-west-1.amazonaws.com/omni/start"
        assert not stack.of_type("AWS::ApiGatewayV2::DomainName") and not stack.of_type("AWS::ApiGatewayV2::ApiMapping")


def test_cors_lets_in_the_listed_origins_alone(stack):
    cors = stack.one("AWS::ApiGatewayV2::Api")["Body"]["x-amazon-apigateway-cors"]
    if stack.parameters["CorsOrigins"]:
        assert cors["allowOrigins"] == ["https://a.example.com", "https://b.example.com"]
        assert cors["allowMethods"] == ["POST"]
        further = stack.parameters["CorsHeaders"].split(",") if stack.parameters["CorsHeaders"] else []
        assert cors["allowHeaders"] == ["authorization", "content-type", *further]
        assert cors["allowCredentials"] is (stack.parameters["CorsCredentials"] == "true")
        assert set(cors) == {"allowOrigins", "allowMethods", "allowHeaders", "allowCredentials", "exposeHeaders", "maxAge"}
    else:
        assert cors == {}


def test_every_documented_variable_is_declared_and_no_other(stack):
    # TestDocumentsListTheVariables compares them with those that the code reads.
    documented = set(re.findall(r"^\| `([A-Z_]+)` \|", (DOCS / "OPERATIONS.md").read_text(), re.M))
    by_others = {
        "GOMAXPROCS",  # Go's scheduler
        "SSL_CERT_DIR",  # crypto/x509
        "AWS_ENDPOINT_URL_SECRETS_MANAGER",  # the SDK, under sam local alone
        "RESERVED_CONCURRENCY",  # nobody; it makes versions differ
    }
    declared = SOURCE["Resources"]["StartFunction"]["Properties"]["Environment"]["Variables"]
    assert set(declared) == documented | by_others
    # Empty, so that the deployed SDK goes to the real service.
    assert declared["AWS_ENDPOINT_URL_SECRETS_MANAGER"] == ""
    assert set(stack.one("AWS::Lambda::Function")["Environment"]["Variables"]) == set(declared)


def test_alarms_watch_the_alias_and_all_but_two_roll_back(stack):
    alarms = stack.of_type("AWS::CloudWatch::Alarm")
    for name, alarm in alarms.items():
        for metric in metrics_of(alarm):
            dimensions = {d["Name"]: d["Value"] for d in metric["Dimensions"]}
            want = {
                "AWS/Lambda": {"FunctionName": "<StartFunction>", "Resource": "<StartFunction>:live"},
                "AWS/ApiGateway": {"ApiId": "<Api>"},
                "Omnistart": {"FunctionName": "<StartFunction>", "Code": dimensions.get("Code")},
            }
            assert dimensions == want[metric["Namespace"]], name
    group = stack.one("AWS::CodeDeploy::DeploymentGroup")
    assert group["AutoRollbackConfiguration"]["Enabled"] is True
    rollback = {a["Name"].strip("<>") for a in group["AlarmConfiguration"]["Alarms"]}
    assert rollback == set(alarms) - {"IncodeUnauthorized", "OutcomeUnknown"}
    assert stack.resources["StartFunctionAliaslive"]["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]


def metrics_of(alarm):
    return [m["MetricStat"]["Metric"] for m in alarm["Metrics"] if "MetricStat" in m] if "Metrics" in alarm else [alarm]


def test_alarms_notify_the_topic():
    topic = "arn:aws:sns:eu-west-1:123456789012:alarms"
    for name, alarm in Stack(**IDS, AlarmTopicArn=topic).of_type("AWS::CloudWatch::Alarm").items():
        assert alarm["AlarmActions"] == [topic], name


def test_the_dashboard_shows_every_alarm(stack):
    dashboard = json.loads(stack.one("AWS::CloudWatch::Dashboard")["DashboardBody"])
    (shown,) = [w["properties"]["alarms"] for w in dashboard["widgets"] if w["type"] == "alarm"]
    assert {s.removeprefix("<").removesuffix(".Arn>") for s in shown} == set(stack.of_type("AWS::CloudWatch::Alarm"))


@pytest.mark.parametrize("age", ["1s", "9999s", "999m", "24h"])
def test_the_maximum_age_of_the_key_reaches_the_function(age):
    assert Stack(**IDS, IncodeApiKeyMaxAge=age).one("AWS::Lambda::Function")["Environment"]["Variables"]["INCODE_API_KEY_MAX_AGE"] == age


def test_timeouts_increase_from_the_inside_to_the_outside(plain):
    secret = 3  # seconds, as TestLoadEndsAfterThreeSeconds holds
    function = plain.one("AWS::Lambda::Function")
    incode = function["Environment"]["Variables"]["INCODE_TIMEOUT"]
    assert re.fullmatch(r"\d+s", incode)
    integration = plain.one("AWS::ApiGatewayV2::Api")["Body"]["paths"]["/omni/start"]["post"]["x-amazon-apigateway-integration"]
    assert secret + int(incode[:-1]) < function["Timeout"] < integration["timeoutInMillis"] / 1000 < 30


def test_the_function_logs_json_that_carries_the_metrics(plain):
    logging = plain.one("AWS::Lambda::Function")["LoggingConfig"]
    # A level above INFO, Lambda's default, would filter the request lines, and the metrics with them.
    assert logging["LogFormat"] == "JSON" and "ApplicationLogLevel" not in logging


def test_capacity_is_set_on_demand():
    stack = Stack(**IDS, ReservedConcurrency="20", ProvisionedConcurrency="2", ThrottlingRate=7, ThrottlingBurst=9)
    assert stack.one("AWS::Lambda::Function")["ReservedConcurrentExecutions"] == "20"
    assert stack.one("AWS::Lambda::Alias")["ProvisionedConcurrencyConfig"] == {"ProvisionedConcurrentExecutions": "2"}
    routes = stack.one("AWS::ApiGatewayV2::Stage")["DefaultRouteSettings"]
    assert (routes["ThrottlingRateLimit"], routes["ThrottlingBurstLimit"]) == (7, 9)
    plain = Stack(**IDS)
    assert "ReservedConcurrentExecutions" not in plain.one("AWS::Lambda::Function")
    assert "ProvisionedConcurrencyConfig" not in plain.one("AWS::Lambda::Alias")


@pytest.mark.parametrize(
    "given",
    [
        {"AllowedConfigurationIds": None},
        {"AllowedConfigurationIds": ""},
        {"AllowedConfigurationIds": "*,6245f1e0c8d4b2a39e7f1c05"},
        {"AllowedConfigurationIds": "6245F1E0C8D4B2A39E7F1C05"},
        {"JwtIssuer": "https://login.example.com/"},
        {"JwtAudience": "omnistart"},
        {"JwtScopes": "session:start"},
        {"JwtIssuer": "http://login.example.com/", "JwtAudience": "omnistart"},
        {"AuthorizerFunctionArn": "session-authorizer"},
        {"AuthorizerIdentitySource": "$request.header.Cookie"},
        {**AUTHORIZER, "AuthorizerIdentitySource": ""},
        {**AUTHORIZER, "AuthorizerIdentitySource": "Cookie"},
        {**AUTHORIZER, "AuthorizerIdentitySource": "$request.querystring.token"},
        {**AUTHORIZER, "JwtAudience": "omnistart"},
        {"AllowedCustomFields": "plan"},
        {"CustomerIdClaim": "email"},
        {**ISSUER, "AllowedCustomFields": "a,,b"},
        {**ISSUER, "CorsOrigins": "*"},
        {**ISSUER, "CorsOrigins": "https://*.example.com"},
        {**ISSUER, "CorsOrigins": "http://example.com"},
        {**ISSUER, "CorsOrigins": "https://a.example.com,*"},
        {**ISSUER, "CorsOrigins": "https://a.example.com/"},
        {**ISSUER, "CorsHeaders": "traceparent"},
        {**ISSUER, **CORS, "CorsHeaders": "*"},
        {**AUTHORIZER, "CorsCredentials": "true"},
        {"IncodeBaseUrl": "http://demo-api.incodesmile.com"},
        {"IncodeBaseUrl": "https://demo-api.incodesmile.com/"},
        {"AllowedRedirectHosts": "https://app.example.com"},
        {"AllowedRedirectHosts": "app.example.com,-a.example.com"},
        {"AllowedRedirectHosts": "app.example.com."},
        {"IncodeApiKeySecretArn": "incode"},
        {"IncodeApiKeySecretArn": SECRET[:-7]},
        {"IncodeApiKeyMaxAge": ""},
        {"IncodeApiKeyMaxAge": "0s"},
        {"IncodeApiKeyMaxAge": "300"},
        {"IncodeApiKeyMaxAge": "25h"},
        {"IncodeApiKeyMaxAge": "10000s"},
        {"IncodeApiKeyMaxAge": "1d"},
        {"DomainName": "start.example.com"},
        {"TruststoreUri": "s3://bucket/ca.pem"},
        {"ReservedConcurrency": "0"},
        {"ThrottlingRate": 0},
    ],
    ids=str,
)
def test_what_would_deploy_an_open_or_a_broken_stack_is_rejected(given):
    with pytest.raises(Rejected):
        Stack(**{**IDS, **given})


def test_every_parameter_says_what_it_is_for():
    for name, parameter in SOURCE["Parameters"].items():
        assert parameter["Description"].endswith("."), name
        assert ("AllowedPattern" in parameter) == ("ConstraintDescription" in parameter), name
    assert [n for n, p in SOURCE["Parameters"].items() if "Default" not in p] == ["AllowedConfigurationIds"]


def test_the_documents_list_the_parameters_with_their_defaults():
    table = (DOCS / "DEPLOYMENT.md").read_text().partition("## Parameters\n")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", table, re.M))
    for name, parameter in SOURCE["Parameters"].items():
        default = parameter.get("Default")
        want = "none; required" if default is None else "empty" if default == "" else f"`{default}`"
        assert rows.pop(name, None) == want, name
    assert not rows, "no such parameters"


def test_the_documents_name_outputs_that_the_stack_has():
    text = "".join(p.read_text() for p in [README, *DOCS.glob("*.md")])
    table = (DOCS / "DEPLOYMENT.md").read_text().partition("## Outputs\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.M)) == set(SOURCE["Outputs"])
    assert set(re.findall(r"outputs? `(\w+)`", text)) <= set(SOURCE["Outputs"])


def test_the_readme_names_ten_parameters():
    rows = re.search(r"^\| parameter \| set it to \|\n(.*?)\n\n", README.read_text(), re.M | re.S).group(1)
    names = [name for row in rows.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert len(names) == 10 and set(names) <= set(SOURCE["Parameters"])


def test_the_documents_say_what_to_do_about_each_alarm(plain):
    rows = re.findall(r"^\| `(\w+)` \| .+ \| .+ \|$", (DOCS / "OPERATIONS.md").read_text(), re.M)
    assert set(plain.of_type("AWS::CloudWatch::Alarm")) == set(rows)


def test_the_documents_quote_titles_of_the_dashboard(plain):
    quoted = re.findall(r'look at "(.+?)" on the dashboard', (DOCS / "OPERATIONS.md").read_text())
    widgets = json.loads(plain.one("AWS::CloudWatch::Dashboard")["DashboardBody"])["widgets"]
    assert quoted and set(quoted) <= {w["properties"]["title"] for w in widgets}
