#!/usr/bin/env node
// The same as naive, in Node.js with the AWS SDK v3. The loop replaces Lambda's
// runtime for Node.js, which does more.
import { GetSecretValueCommand, SecretsManagerClient } from "@aws-sdk/client-secrets-manager";

const { AWS_LAMBDA_RUNTIME_API, INCODE_API_KEY_SECRET_ID, INCODE_BASE_URL } = process.env;
const api = `http://${AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime/invocation`;

const secret = await new SecretsManagerClient().send(new GetSecretValueCommand({ SecretId: INCODE_API_KEY_SECRET_ID }));

async function handler(event) {
  const { configurationId, externalCustomerId } = JSON.parse(event.body);
  if (!configurationId) return { statusCode: 400, body: "{}" };
  const response = await fetch(`${INCODE_BASE_URL}/omni/start`, {
    method: "POST",
    headers: { "content-type": "application/json", "api-version": "1.0", "x-api-key": secret.SecretString },
    body: JSON.stringify({ configurationId, externalCustomerId, countryCode: "ALL" }),
    signal: AbortSignal.timeout(10_000),
  });
  if (!response.ok) return { statusCode: 502, body: "{}" };
  const { token } = await response.json();
  return { statusCode: 200, headers: { "content-type": "application/json" }, body: JSON.stringify({ token }) };
}

for (;;) {
  const next = await fetch(`${api}/next`);
  const answer = await handler(await next.json());
  const id = next.headers.get("lambda-runtime-aws-request-id");
  await (await fetch(`${api}/${id}/response`, { method: "POST", body: JSON.stringify(answer) })).arrayBuffer();
}
