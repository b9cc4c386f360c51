"""The anthropic package: messages, stream, tools, counting. The script is in ../mod.rs."""
import json
import os

import anthropic

url = os.environ["CHRYSALIS_URL"].removesuffix("/v1")
client = anthropic.Anthropic(base_url=url, api_key=os.environ["CHRYSALIS_KEY"])
MODEL = os.environ["CHRYSALIS_MODEL"]
receipts = []


def paid(x_job):
    assert x_job["verified"], x_job
    receipts.append(x_job["receipt_id"])


schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
tools = [{"name": "weather", "description": "of a city", "input_schema": schema}]
question = {"role": "user", "content": "How is the weather in Rome?"}

first = client.messages.create(model=MODEL, max_tokens=500, messages=[question], tools=tools)
assert first.stop_reason == "tool_use", first
call = first.content[-1]
assert call.input == {"city": "Rome"}, call
paid(first.x_job)
counted = client.messages.count_tokens(model=MODEL, messages=[question], tools=tools)
assert counted.input_tokens == first.usage.input_tokens, counted

second = client.messages.create(
    model=MODEL,
    max_tokens=500,
    tools=tools,
    messages=[
        question,
        {"role": "assistant", "content": first.content},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}],
        },
    ],
)
assert second.content[0].text == "It is sunny in Rome.", second
paid(second.x_job)

with client.messages.stream(
    model=MODEL, max_tokens=500, messages=[{"role": "user", "content": "Hi"}]
) as stream:
    text = "".join(stream.text_stream)
    final = stream.get_final_message()
assert text == "A plain answer." and final.stop_reason == "end_turn", final
assert final.usage.input_tokens > 0 and final.usage.output_tokens > 0, final.usage

with client.messages.stream(model=MODEL, max_tokens=500, messages=[question], tools=tools) as stream:
    jobs = [event.x_job for event in stream if event.type == "message_delta"]
    final = stream.get_final_message()
assert final.content[-1].input == {"city": "Rome"}, final
paid(jobs[0])

try:
    client.messages.create(model="none", max_tokens=5, messages=[question])
    raise AssertionError("there is no such model")
except anthropic.NotFoundError as error:
    assert error.body["error"]["type"] == "not_found_error", error.body
print(json.dumps(receipts))
