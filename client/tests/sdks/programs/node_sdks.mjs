// The openai and @anthropic-ai/sdk packages, and Vercel's AI SDK over responses, chat and embeddings. The script is in
// ../mod.rs.
import assert from "node:assert";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import { createOpenAI } from "@ai-sdk/openai";
import { embedMany, generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";

const { CHRYSALIS_URL: baseURL, CHRYSALIS_KEY: apiKey } = process.env;
const { CHRYSALIS_MODEL: model, CHRYSALIS_EMBEDDER: embedder } = process.env;
const receipts = [];
const paid = (job) => {
  assert.ok(job.verified);
  receipts.push(job.receipt_id);
};
const question = "How is the weather in Rome?";
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };

const openai = new OpenAI({ baseURL, apiKey });
const plain = await openai.chat.completions.create({ model, messages: [{ role: "user", content: "Hi" }] });
assert.equal(plain.choices[0].message.content, "A plain answer.");
paid(plain.x_job);
let text = "";
const chunks = await openai.chat.completions.create({
  model, messages: [{ role: "user", content: "Hi" }], stream: true,
});
for await (const chunk of chunks) text += chunk.choices[0].delta.content ?? "";
assert.equal(text, "A plain answer.");
const asked = await openai.chat.completions.create({
  model, messages: [{ role: "user", content: question }],
  tools: [{ type: "function", function: { name: "weather", parameters } }],
});
assert.deepEqual(JSON.parse(asked.choices[0].message.tool_calls[0].function.arguments), { city: "Rome" });
paid(asked.x_job);
const vectors = await openai.embeddings.create({ model: embedder, input: ["one", "two"] });
assert.equal(vectors.data.length, 2);
const tools = [{ type: "function", name: "weather", parameters, strict: false }];
const first = await openai.responses.create({ model, input: question, tools });
const call = first.output.find((item) => item.type === "function_call");
paid(first.x_job);
const second = await openai.responses.create({
  model, previous_response_id: first.id,
  input: [{ type: "function_call_output", call_id: call.call_id, output: "sunny" }],
});
assert.equal(second.output_text, "It is sunny in Rome.");
const events = [];
for await (const event of await openai.responses.create({ model, input: "Hi", stream: true })) events.push(event);
assert.equal(events.at(-1).type, "response.completed");
assert.equal(events.at(-1).response.output[0].content[0].text, "A plain answer.");

const anthropic = new Anthropic({ baseURL: baseURL.replace(/\/v1$/, ""), apiKey });
const message = await anthropic.messages
  .stream({ model, max_tokens: 200, messages: [{ role: "user", content: question }],
    tools: [{ name: "weather", input_schema: parameters }] })
  .finalMessage();
assert.deepEqual(message.content.at(-1).input, { city: "Rome" });
assert.equal(message.stop_reason, "tool_use");

const provider = createOpenAI({ baseURL, apiKey });
const weather = tool({
  description: "of a city", inputSchema: jsonSchema(parameters), execute: async () => "sunny",
});
for (const spoken of [provider.responses(model), provider.chat(model)]) {
  const loop = await generateText({
    model: spoken, prompt: question, tools: { weather }, stopWhen: stepCountIs(3),
  });
  assert.equal(loop.text, "It is sunny in Rome.");
  assert.equal(loop.steps.length, 2);
  const stream = streamText({ model: spoken, prompt: "Hi" });
  let streamed = "";
  for await (const part of stream.textStream) streamed += part;
  assert.equal(streamed, "A plain answer.");
}
const { embeddings } = await embedMany({ model: provider.textEmbeddingModel(embedder), values: ["one", "two"] });
assert.equal(embeddings.length, 2);
console.log(JSON.stringify(receipts));
