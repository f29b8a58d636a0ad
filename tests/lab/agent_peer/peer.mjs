// The original's agent for Node.js, as its README shows it: a URL on each line of standard input, what came of it on each line of standard output.
import * as http from "node:http";
import * as readline from "node:readline";
import { CodezeroAgent } from "@c6o/codezero-agent";

const agent = new CodezeroAgent();

function fetched(url) {
  return new Promise((resolve) => {
    const request = http.get(url, { agent }, (response) => {
      let body = "";
      response.on("data", (part) => (body += part));
      response.on("end", () => resolve({ status: response.statusCode, body }));
    });
    request.on("error", (error) => resolve({ error: String(error.message) }));
  });
}

for await (const url of readline.createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await fetched(url)));
}
