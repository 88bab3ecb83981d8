// Starts a session, and reads a problem, with the types generated from the contract.
import createClient from "openapi-fetch";
import type { paths } from "./schema.js";

declare const process: { argv: string[] };

const [baseUrl = "", configurationId = ""] = process.argv.slice(2);
const client = createClient<paths>({ baseUrl, headers: { Authorization: "Bearer e30.eyJzdWIiOiJjdXN0b21lci03In0.x" } });

const started = await client.POST("/omni/start", { body: { configurationId } });
const token: string | undefined = started.data?.token;

const refused = await client.POST("/omni/start", { body: { configurationId, externalCustomerId: "customer-42" } });
const problem = refused.error;
if (!problem || !("type" in problem)) throw new Error("not a problem");

console.log(JSON.stringify({ token, status: problem.status, type: problem.type }));
