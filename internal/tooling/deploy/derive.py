"""Derives from template.yaml what the emulator can deploy. Each function makes one difference and says why it is needed."""

from copy import deepcopy

from stack import SOURCE, with_parameters

# What SAM adds for CodeDeploy.
CODEDEPLOY = {"ServerlessDeploymentApplication", "StartFunctionDeploymentGroup", "CodeDeployServiceRole"}


def resolve_parameters(template, values):
    """AWS::LanguageExtensions replaces references to parameters by their values before SAM looks for changes. The emulator's
    does not, so SAM would see no change when a parameter changes."""
    template["Resources"] = with_parameters(template["Resources"], values)


def leave_out_codedeploy(template, _):
    """The emulator has no CodeDeploy. The alias moves at once."""
    del template["Resources"]["StartFunction"]["Properties"]["DeploymentPreference"]


def leave_out_metric_math(template, _):
    """The emulator has no metric math. The alarm on the share of errors becomes an alarm on their number."""
    alarm = template["Resources"]["ServerErrors"]["Properties"]
    (errors,) = (m["MetricStat"] for m in alarm.pop("Metrics") if m["Id"] == "errors")
    alarm.update(errors["Metric"], Period=errors["Period"], Statistic=errors["Stat"])


def allow_http_to_incode(template, _):
    """The stand-in for Incode has no certificate."""
    parameter = template["Parameters"]["IncodeBaseUrl"]
    assert parameter["AllowedPattern"].startswith("^https://")
    parameter["AllowedPattern"] = parameter["AllowedPattern"].replace("https", "https?", 1)


def derive(given):
    """The template as the emulator can deploy it with these parameters."""
    template = deepcopy(SOURCE)
    values = {name: given.get(name, declared.get("Default")) for name, declared in SOURCE["Parameters"].items()}
    for difference in (resolve_parameters, leave_out_codedeploy, leave_out_metric_math, allow_http_to_incode):
        difference(template, values)
    return template
