"""Tells Schemathesis the format of customer IDs, and what the operator of this run has configured."""

import json
import pathlib
import re
import unicodedata

import schemathesis
from hypothesis import strategies as st

CONTRACT = json.loads((pathlib.Path(__file__).parents[3] / "functions/start/docs/openapi.json").read_text())
FIELDS = CONTRACT["components"]["schemas"]["StartRequest"]["properties"]
ALLOWED = {
    "configurationId": "6245f1e0c8d4b2a39e7f1c05",
    "redirectionUrl": "https://app.example.com/done",
    "externalCustomerId": "customer-7",
}
CUSTOM_FIELDS = [f"f{n}" for n in range(1, 21)]  # ALLOWED_CUSTOM_FIELDS in check.sh


def printable(character):
    """The rule of the format customer-id for one character."""
    return character == " " or character != "\ufffd" and unicodedata.category(character)[0] in "LMNPS"


def is_customer_id(text):
    return text == text.strip(" ") and all(map(printable, text))


# Go and Python know different versions of Unicode, so only characters of an old one are sent.
CHARACTERS = st.characters(codec="utf-8").filter(lambda c: printable(c) and unicodedata.ucd_3_2_0.category(c) != "Cn")
schemathesis.openapi.format("customer-id", st.text(CHARACTERS, min_size=1, max_size=255).filter(is_customer_id))


@schemathesis.hook
def before_call(context, case, kwargs):
    """Replaces values by the allowed flow and host, the caller's own ID and the names that a customer may set, which the
    schema does not contain, and numbers that have more digits than the rule allows.

    Invalid values are not replaced, because the function must see them. Some valid flows and customers are not replaced
    either, so that the function also gets those that are not allowed.
    """
    if isinstance(case.body, dict):
        case.body = {field: allowed(field, value) for field, value in case.body.items()}


def allowed(field, value):
    if field == "customFields" and isinstance(value, dict):
        names = iter(CUSTOM_FIELDS)
        return {next(names, n) if is_valid(n, FIELDS[field]["propertyNames"]) else n: exact(v) for n, v in value.items()}
    if field not in ALLOWED or not isinstance(value, str) or not is_valid(value, FIELDS[field]):
        return value
    keep = field != "redirectionUrl" and value[:1] in "89abcdef"
    return value if keep else ALLOWED[field]


def is_valid(text, schema):
    return (
        re.fullmatch(schema.get("pattern", ".*"), text, re.S)
        and schema.get("minLength", 0) <= len(text) <= schema.get("maxLength", len(text))
        and (schema.get("format") != "customer-id" or is_customer_id(text))
    )


def exact(value):
    """Returns the value, or another one in place of a number that the schema allows and the rule does not."""
    schema, text = FIELDS["customFields"]["additionalProperties"], json.dumps(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not schema["minimum"] <= value <= schema["maximum"]:
        return value
    return 1.5 if "e" in text or sum(map(str.isdigit, text)) > 15 else value
