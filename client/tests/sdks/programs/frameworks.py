"""LangChain and LlamaIndex over chat completions. The script is in ../mod.rs."""
import json
import os

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from llama_index.core.llms import ChatMessage
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike

URL, KEY = os.environ["CHRYSALIS_URL"], os.environ["CHRYSALIS_KEY"]
MODEL, EMBEDDER = os.environ["CHRYSALIS_MODEL"], os.environ["CHRYSALIS_EMBEDDER"]


def weather(city: str) -> str:
    """The weather of a city."""
    return "sunny"


chain = ChatOpenAI(base_url=URL, api_key=KEY, model=MODEL)
assert chain.invoke("Hi").content == "A plain answer."
assert "".join(chunk.content for chunk in chain.stream("Hi")) == "A plain answer."
bound = chain.bind_tools([weather])
question = HumanMessage("How is the weather in Rome?")
asked = bound.invoke([question])
call = asked.tool_calls[0]
assert (call["name"], call["args"]) == ("weather", {"city": "Rome"}), asked
answer = ToolMessage(weather(**call["args"]), tool_call_id=call["id"])
assert bound.invoke([question, asked, answer]).content == "It is sunny in Rome."
responses = ChatOpenAI(base_url=URL, api_key=KEY, model=MODEL, use_responses_api=True)
assert responses.invoke("Hi").text == "A plain answer.", responses.invoke("Hi")
embeddings = OpenAIEmbeddings(
    base_url=URL, api_key=KEY, model=EMBEDDER, check_embedding_ctx_length=False
)
assert len(embeddings.embed_documents(["one", "two"])) == 2

index = OpenAILike(api_base=URL, api_key=KEY, model=MODEL, is_chat_model=True)
assert index.chat([ChatMessage(role="user", content="Hi")]).message.content == "A plain answer."
streamed = [part.delta for part in index.stream_chat([ChatMessage(role="user", content="Hi")])]
assert "".join(part or "" for part in streamed) == "A plain answer.", streamed
completing = OpenAILike(api_base=URL, api_key=KEY, model=MODEL, is_chat_model=False, max_tokens=50)
assert completing.complete("Hi").text == "A plain answer."
vectors = OpenAILikeEmbedding(api_base=URL, api_key=KEY, model_name=EMBEDDER)
assert len(vectors.get_text_embedding("one")) == 2
print(json.dumps([]))
