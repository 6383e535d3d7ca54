"""What the demo backend answers, told in the dialect that was asked.

A run is told whole, or in frames: one for each token and one for the end.
`chat` tells the chat form of a dialect from its completion form.
"""

import base64
import hashlib
import json
import math
import struct
import time


def to_json(value):
    return json.dumps(value, separators=(",", ":")).encode()


class Run:
    """One inference: what was asked, what is answered, how long it took."""

    def __init__(self, args, body, model, prompt):
        limit = (body.get("options") or {}).get("num_predict")
        for key in ("max_tokens", "max_completion_tokens"):
            limit = body.get(key, limit)
        limited = isinstance(limit, int) and 0 <= limit < args.tokens
        said = f"Hello from {args.name}: a mock answering as {model}".split()
        said += [f"word{n}" for n in range(len(said) + 1, args.tokens + 1)]
        said = said[:limit if limited else args.tokens]

        self.model = body["model"]
        self.tokens = said[:1] + [" " + word for word in said[1:]]
        self.text = "".join(self.tokens)
        self.reason = "length" if limited else "stop"
        self.prompt_count = len(prompt.split())
        self.id = hashlib.sha256(prompt.encode()).hexdigest()[:12]
        self.created = rfc3339(time.time())
        self.marks = [time.perf_counter_ns()]

    def mark(self):
        self.marks.append(time.perf_counter_ns())

    def figures(self):
        """The end of an Ollama answer; times in nanoseconds."""
        begin, loaded, read, end = self.marks
        return {"done": True, "done_reason": self.reason,
                "total_duration": end - begin,
                "load_duration": loaded - begin,
                "prompt_eval_count": self.prompt_count,
                "prompt_eval_duration": read - loaded,
                "eval_count": len(self.tokens),
                "eval_duration": end - read}

    def usage(self):
        done = len(self.tokens)
        return {"prompt_tokens": self.prompt_count, "completion_tokens": done,
                "total_tokens": self.prompt_count + done}


def garbage(frame):
    """A frame, and before it one that is no JSON."""
    if frame.endswith(b"\n\n"):
        return b'data: {"cho]}"\n\n' + frame
    return b'{"respo]}"\n' + frame


def ollama_line(run, chat, text, figures):
    said = ({"message": {"role": "assistant", "content": text}} if chat
            else {"response": text})
    return {"model": run.model, "created_at": run.created, **said, **figures}


def ollama_whole(run, chat):
    return ollama_line(run, chat, run.text, run.figures())


def ollama_frames(run, chat, body):
    for token in run.tokens:
        line = ollama_line(run, chat, token, {"done": False})
        yield to_json(line) + b"\n"
    run.mark()
    context = {} if chat else {"context": [1, 2, 3]}
    last = ollama_line(run, chat, "", {**run.figures(), **context})
    yield to_json(last) + b"\n"


def openai_value(run, kind, said, reason, **fields):
    return {"id": "chatcmpl-" + run.id, "object": kind,
            "created": int(time.time()), "model": run.model,
            "choices": [{"index": 0, **said, "finish_reason": reason}],
            **fields}


def openai_whole(run, chat):
    if not chat:
        return openai_value(run, "text_completion", {"text": run.text},
                            run.reason, usage=run.usage())
    message = {"role": "assistant", "content": run.text}
    return openai_value(run, "chat.completion", {"message": message},
                        run.reason, usage=run.usage())


def openai_frames(run, chat, body):
    kind = "chat.completion.chunk" if chat else "text_completion"
    with_usage = (body.get("stream_options") or {}).get("include_usage")
    zero = {} if chat or not with_usage else {     # as Ollama does
        "usage": dict.fromkeys(run.usage(), 0)}

    def event(said, reason=None, **fields):
        value = openai_value(run, kind, said, reason, **fields)
        return b"data: " + to_json(value) + b"\n\n"

    for token in run.tokens:
        yield event({"delta": {"role": "assistant", "content": token}} if chat
                    else {"text": token}, **zero)
    last = event({"delta": {}} if chat else {"text": ""}, run.reason)
    if with_usage:
        last += event({}, choices=[], usage=run.usage())
    yield last + b"data: [DONE]\n\n"


def anthropic_whole(run, chat, started=False):
    content = [] if started else [{"type": "text", "text": run.text}]
    reason = "max_tokens" if run.reason == "length" else "end_turn"
    return {"id": "msg_" + run.id, "type": "message", "role": "assistant",
            "model": run.model, "content": content, "stop_sequence": None,
            "stop_reason": None if started else reason,
            "usage": {"input_tokens": run.prompt_count,
                      "output_tokens": 0 if started else len(run.tokens)}}


def anthropic_frames(run, chat, body):
    def event(kind, **fields):
        data = to_json({"type": kind, **fields}).decode()
        return f"event: {kind}\ndata: {data}\n\n".encode()

    opening = (event("message_start", message=anthropic_whole(run, chat, True))
               + event("content_block_start", index=0,
                       content_block={"type": "text", "text": ""}))
    for token in run.tokens:
        delta = {"type": "text_delta", "text": token}
        yield opening + event("content_block_delta", index=0, delta=delta)
        opening = b""
    reason = anthropic_whole(run, chat)["stop_reason"]
    yield (opening + event("content_block_stop", index=0)
           + event("message_delta", usage={"output_tokens": len(run.tokens)},
                   delta={"stop_reason": reason, "stop_sequence": None})
           + event("message_stop"))


def openai_embeddings(run, body, vectors):
    if body.get("encoding_format") == "base64":
        vectors = [base64.b64encode(struct.pack(f"<{len(v)}f", *v)).decode()
                   for v in vectors]
    usage = {"prompt_tokens": run.prompt_count,
             "total_tokens": run.prompt_count}
    return {"object": "list", "model": run.model, "usage": usage, "data": [
        {"object": "embedding", "index": n, "embedding": v}
        for n, v in enumerate(vectors)]}


def text_of(value):
    """The text in a prompt, a message, a part, or a list of them."""
    if isinstance(value, list):
        return " ".join(text_of(item) for item in value)
    if isinstance(value, dict):
        return text_of(value.get("content", value.get("text", "")))
    return value if isinstance(value, str) else ""


def unit_vector(model, text, size):
    """Depends on nothing but the model and the text."""
    seed = f"{model}\n{text}".encode()
    raw = struct.unpack(f"<{size}i", hashlib.shake_256(seed).digest(4 * size))
    length = math.hypot(*raw) or 1.0
    return [x / length for x in raw]


def rfc3339(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
