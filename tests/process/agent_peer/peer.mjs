// The published agent as programs use it. Each line on stdin asks for something; each answer is a line on stdout.
//
//   {"do": "credentials"}              -> {"host": ..., "token": ..., "cert": ...} or {"error": ...}
//   {"do": "get", "url": "http://..."} -> {"status": ..., "body": ...} or {"error": ...}
//   {"do": "forget"}                   -> {}; a new agent, which has asked for nothing yet
//
// Organization, key, Teamspace and Hub come from the environment, as its README says.
import { CodezeroAgent } from "@c6o/codezero-agent";
import fetch from "node-fetch";
import { createInterface } from "node:readline";

let agent = new CodezeroAgent();

const actions = {
  credentials: () => agent.getSpaceCredentials(),
  get: async ({ url }) => {
    const response = await fetch(url, { agent });
    return { status: response.status, body: await response.text() };
  },
  forget: async () => {
    agent = new CodezeroAgent();
    return {};
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const asked = JSON.parse(line);
  let answer;
  try {
    answer = await actions[asked.do](asked);
  } catch (error) {
    answer = { error: error.message };
  }
  console.log(JSON.stringify(answer));
}
