"""A llama model of random weights, half a megabyte, and llama.cpp's own server for it."""

# Llama 3's way of calling tools. Others let any text stand before the call, of
# which random weights never find the end.
TEMPLATE = """
{%- if tools %}<|im_start|>system
Call one with {"name": function name, "parameters": dictionary of its arguments}
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{%- endif %}
{%- for message in messages %}
  {%- if message.tool_calls %}<|im_start|>assistant
    {%- for call in message.tool_calls -%}
{"name": "{{ call.function.name }}", "parameters": {{ call.function.arguments | tojson }}}
    {%- endfor %}<|im_end|>
  {%- else %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{%- endif %}
""".strip()

FIRST_BYTE = 3
"""The token of byte 0: three special ones come before."""

EMBEDDING = 64
BLOCKS = 2
HEADS = 4
FEED_FORWARD = 128
CONTEXT = 8192


# Random weights write bytes of which no character comes; printable ASCII has one
# for each token. The first three tokens have none at all.
READABLE = {
    str(token): -100 for token in range(FIRST_BYTE + 256) if not 0x20 <= token - FIRST_BYTE < 0x7F
}


def serve(folder, outside, *, metrics=False):
    """Start the server; it ends with the last reference to it."""
    xllamacpp, gguf, numpy = map(outside, ("xllamacpp", "gguf", "numpy"))
    path = folder / "tiny.gguf"
    write(path, gguf, numpy)
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.port = 0
    params.n_ctx = CONTEXT
    params.n_parallel = 4
    params.warmup = False
    params.verbosity = -1
    params.endpoint_metrics = metrics
    # Its threads wait for each other by spinning: more than one are slow on a busy machine.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    return xllamacpp.Server(params)


def write(path, gguf, numpy):
    """Write the model to *path*; its tokens are the 256 bytes."""
    tokens = [b"<unk>", b"<s>", b"</s>", *(b"<0x%02X>" % byte for byte in range(256))]
    kind = gguf.TokenType
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(EMBEDDING)
    writer.add_block_count(BLOCKS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(EMBEDDING // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([kind.UNKNOWN, kind.CONTROL, kind.CONTROL] + [kind.BYTE] * 256)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    # A space in front would be no part of the prompt that a grammar begins with.
    writer.add_add_space_prefix(False)
    writer.add_chat_template(TEMPLATE)

    random = numpy.random.default_rng(7)

    def tensor(name, *shape):
        values = random.normal(size=shape) * 0.05
        writer.add_tensor(name, values.astype(numpy.float32))

    def ones(name):
        writer.add_tensor(name, numpy.ones(EMBEDDING, dtype=numpy.float32))

    tensor("token_embd.weight", len(tokens), EMBEDDING)
    ones("output_norm.weight")
    tensor("output.weight", len(tokens), EMBEDDING)
    for block in range(BLOCKS):
        prefix = f"blk.{block}"
        ones(f"{prefix}.attn_norm.weight")
        ones(f"{prefix}.ffn_norm.weight")
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensor(f"{prefix}.{name}.weight", EMBEDDING, EMBEDDING)
        tensor(f"{prefix}.ffn_gate.weight", FEED_FORWARD, EMBEDDING)
        tensor(f"{prefix}.ffn_up.weight", FEED_FORWARD, EMBEDDING)
        tensor(f"{prefix}.ffn_down.weight", EMBEDDING, FEED_FORWARD)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
