"""The openai package: chat, stream, tools, embeddings, responses, completions. The script is in ../mod.rs."""
import json
import os

from openai import OpenAI, NotFoundError

client = OpenAI(base_url=os.environ["CHRYSALIS_URL"], api_key=os.environ["CHRYSALIS_KEY"])
MODEL, EMBEDDER = os.environ["CHRYSALIS_MODEL"], os.environ["CHRYSALIS_EMBEDDER"]
receipts = []


def paid(x_job):
    assert x_job["verified"], x_job
    receipts.append(x_job["receipt_id"])


question = [{"role": "user", "content": "How is the weather in Rome?"}]
parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
tools = [{"type": "function", "function": {"name": "weather", "parameters": parameters}}]

plain = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hi"}])
assert plain.choices[0].message.content == "A plain answer.", plain
paid(plain.x_job)

text = ""
for chunk in client.chat.completions.create(
    model=MODEL, messages=[{"role": "user", "content": "Hi"}], stream=True
):
    text += chunk.choices[0].delta.content or ""
assert text == "A plain answer.", text
paid(chunk.x_job)

asked = client.chat.completions.create(model=MODEL, messages=question, tools=tools)
call = asked.choices[0].message.tool_calls[0]
assert json.loads(call.function.arguments) == {"city": "Rome"}, call
paid(asked.x_job)
answered = client.chat.completions.create(
    model=MODEL,
    tools=tools,
    messages=question
    + [asked.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}],
)
assert answered.choices[0].message.content == "It is sunny in Rome.", answered
paid(answered.x_job)

vectors = client.embeddings.create(model=EMBEDDER, input=["one", "two"])
assert [len(vector.embedding) for vector in vectors.data] == [2, 2], vectors
paid(vectors.x_job)

raw = client.completions.create(model=MODEL, prompt="Hi", max_tokens=50)
assert raw.choices[0].text == "A plain answer.", raw
paid(raw.x_job)

flat = [{"type": "function", "name": "weather", "parameters": parameters}]
first = client.responses.create(model=MODEL, input="How is the weather in Rome?", tools=flat)
call = next(item for item in first.output if item.type == "function_call")
paid(first.x_job)
second = client.responses.create(
    model=MODEL,
    previous_response_id=first.id,
    tools=flat,
    input=[{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}],
)
assert second.output_text == "It is sunny in Rome.", second
assert client.responses.retrieve(second.id).output_text == second.output_text
client.responses.delete(second.id)
try:
    client.responses.retrieve(second.id)
    raise AssertionError("it was deleted")
except NotFoundError:
    pass
with client.responses.stream(model=MODEL, input="How is the weather in Rome?", tools=flat) as stream:
    kinds = [event.type for event in stream]
    final = stream.get_final_response()
assert kinds[0] == "response.created" and kinds[-1] == "response.completed", kinds
assert "response.output_text.delta" in kinds and "response.function_call_arguments.done" in kinds, kinds
assert [item.type for item in final.output] == ["message", "function_call"], final
print(json.dumps(receipts))
