"""Chat templates of the families, cut down to what decides where tokens stand, on a tokenizer of letters."""

from __future__ import annotations

from typing import Any

from covey.models.tiny import characters

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN = (
    "{% set system = messages[0].content if messages[0].role == 'system' else '' %}"
    "{% if tools %}<|im_start|>system\n{{ system }}# Tools{% for t in tools %}\n{{ t | tojson }}{% endfor %}"
    "\nCall with <tool_call>...</tool_call><|im_end|>\n"
    "{% elif system %}<|im_start|>system\n{{ system }}<|im_end|>\n{% endif %}"
    "{% for m in messages %}{% if m.role == 'tool' %}"
    "{% if loop.first or messages[loop.index0 - 1].role != 'tool' %}<|im_start|>user{% endif %}"
    "\n<tool_response>\n{{ m.content }}\n</tool_response>"
    "{% if loop.last or messages[loop.index0 + 1].role != 'tool' %}<|im_end|>\n{% endif %}"
    "{% elif m.role != 'system' %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = (
    "<|begin_of_text|>{% for m in messages %}"
    "{% set role = 'ipython' if m.role == 'tool' else m.role %}"
    "<|start_header_id|>{{ role }}<|end_header_id|>\n\n"
    "{% if tools and loop.first %}Tools: {% for t in tools %}{{ t | tojson }}\n{% endfor %}"
    'Answer {"name": ..., "parameters": ...}\n{% endif %}{{ m.content | trim }}<|eot_id|>{% endfor %}'
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MISTRAL = (
    "{% set say = messages[1:] if messages[0].role == 'system' else messages %}"
    "{% set ns = namespace(last=0) %}"
    "{% for m in say %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}<s>"
    "{% for m in say %}{% if m.role == 'user' %}{% if tools and loop.index0 == ns.last %}"
    "[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}[INST]{{ m.content }}[/INST]"
    "{% elif m.role == 'tool' %}{% if m.tool_call_id | length != 9 %}{{ raise_exception('nine') }}{% endif %}"
    "[TOOL_RESULTS]{{ m.content }}[/TOOL_RESULTS]"
    "{% elif m.role == 'assistant' %}{{ m.content }}</s>{# [TOOL_CALLS] #}"
    "{% else %}{{ raise_exception('role') }}{% endif %}{% endfor %}"
)
STRIPS = CHATML.replace(
    "{{ m.content }}",
    "{{ m.content.split('</think>')[-1] if m.role == 'assistant' and not loop.last else m.content }}",
)

_SPECIAL = {
    "chatml": (CHATML, "<|im_end|>", ("<|im_start|>",)),
    "qwen": (QWEN, "<|im_end|>", ("<|im_start|>",)),
    "llama": (LLAMA, "<|eot_id|>", (
        "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|python_tag|>",
    )),
    "mistral": (MISTRAL, "</s>", (
        "<s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
        "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[ARGS]",
    )),
    "strips": (STRIPS, "<|im_end|>", ("<|im_start|>",)),
}  # fmt: skip


def tokenizer_of(family: str) -> Any:
    """A tokenizer of letters with a family's template and special tokens."""
    made = characters()
    if family == "tiny":
        return made
    template, end, others = _SPECIAL[family]
    made.add_special_tokens({"eos_token": end, "additional_special_tokens": list(others)})
    made.chat_template = template
    return made
