"""Writes templates.json: what Jinja2 makes of real chat templates, as SHA-256 of the text, or "refused".

    pip install jinja2==3.1.6
    python engine/tests/reference/templates.py DIRECTORY engine/tests/reference/templates.json [--show TEMPLATE CONVERSATION]

DIRECTORY has the templates: `vendor/llama.cpp/models/templates` of the source archive llama_cpp_python-0.3.36.tar.gz. They are not
ours to redistribute, so only digests are kept. The environment is that of transformers 5 (`utils/chat_template_utils.py`,
`_compile_jinja_template`): sandboxed, blocks trimmed and stripped, `loopcontrols`, `{% generation %}` as a block without effect,
`tojson` without escapes, `raise_exception`, and `strftime_now`, whose now is 2026-02-03 here.
"""

import datetime
import hashlib
import json
import pathlib
import sys

import jinja2
import jinja2.ext
import jinja2.sandbox

HERE = pathlib.Path(__file__).parent
TODAY = datetime.datetime(2026, 2, 3)
SPECIAL = {"bos_token": "<BOS>", "eos_token": "<EOS>"}


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    made = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = TODAY.strftime
    return made


def rendered(template, conversation, tools):
    given = {"enable_thinking": conversation["thinking"]} if "thinking" in conversation else {}
    messages = json.loads(json.dumps(conversation["messages"]))
    if "developer" not in template:
        for message in messages:
            message["role"] = message["role"].replace("developer", "system")
    try:
        return environment().from_string(template).render(
            messages=messages,
            tools=tools if "tools" in conversation else None,
            documents=None,
            add_generation_prompt=True,
            **SPECIAL,
            **given,
        )
    except Exception as error:
        return error


def main():
    directory, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    conversations = json.loads((HERE / "conversations.json").read_text())
    tools = json.loads((HERE / "tools.json").read_text())
    if "--show" in sys.argv:
        name, which = sys.argv[-2:]
        template = (directory / name).read_bytes().decode()
        print(rendered(template, next(c for c in conversations if c["name"] == which), tools))
        return
    written = {}
    for path in sorted(directory.glob("*.jinja")):
        written[path.name] = {}
        for conversation in conversations:
            text = rendered(path.read_bytes().decode(), conversation, tools)
            done = isinstance(text, str)
            written[path.name][conversation["name"]] = hashlib.sha256(text.encode()).hexdigest() if done else "refused"
    out.write_text(json.dumps(written, indent=1, sort_keys=True) + "\n")


main()
