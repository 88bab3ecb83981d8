"""Starts a session, and reads a problem, with the client generated from the contract."""

import json
import sys

from omnistart_client import AuthenticatedClient
from omnistart_client.api.sessions import start_session
from omnistart_client.models import Problem, Session, StartRequest

base_url, configuration_id = sys.argv[1:]
client = AuthenticatedClient(base_url, token="e30.eyJzdWIiOiJjdXN0b21lci03In0.x")

started = start_session.sync(client=client, body=StartRequest(configuration_id))
assert isinstance(started, Session), started

problem = start_session.sync(client=client, body=StartRequest(configuration_id, external_customer_id="customer-42"))
assert isinstance(problem, Problem), problem

print(json.dumps({"token": started.token, "status": problem.status, "type": problem.type_}))
