"""A small server that speaks ``/v1/chat/completions`` with log-probabilities, and fails on demand."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch


class Served:
    """What the server was asked, and how it is to fail: ``failures`` are used up one by one."""

    def __init__(self, reply):
        self.reply, self.failures, self.requests, self.times, self.keys = reply, [], [], [], []
        self.always = None
        self.released = threading.Event()
        self.lock = threading.Lock()
        self.url = ""

    def failure(self):
        with self.lock:
            return self.failures.pop(0) if self.failures else self.always


def completion(text, steps=()):
    content = [
        {
            "token": token,
            "logprob": alternatives[token],
            "top_logprobs": [{"token": each, "logprob": value} for each, value in alternatives.items()],
        }
        for token, alternatives in steps
    ]
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    choice["logprobs"] = {"content": content} if steps else None
    return {"choices": [choice], "usage": {"prompt_tokens": 50, "completion_tokens": 5}}


@contextmanager
def serving(reply):
    """A server for the time of the block. ``reply(request) -> completion``."""
    served = Served(reply)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with served.lock:
                served.requests.append(request)
                served.times.append(time.monotonic())
                served.keys.append(self.headers.get("Authorization"))
            failure = served.failure()
            if failure == "hang":
                served.released.wait(20)
                return
            if failure == "redirect":
                self.send_response(302)
                self.send_header("Location", served.url.replace("/v1", "/elsewhere"))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            status, headers, body = 200, {}, json.dumps(served.reply(request)).encode() if failure is None else b""
            if failure == "nonsense":
                body = b"<html>it works</html>"
            elif failure == "half":
                body = json.dumps(completion("x")).encode()[:40]
            elif failure == "other json":
                body = b'{"hello": "world"}'
            elif failure is not None:
                status, message, headers = failure
                body = json.dumps({"error": {"message": message}}).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, request, client_address):
            """A client that gave up is no news."""

    server = Quiet(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        served.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


def model_reply(model):
    """Replies by a language model of pellucid: greedy, a token at a time, with the ten likeliest of each."""
    lock = threading.Lock()

    def reply(request):
        text = "\n\n".join(message["content"] for message in request["messages"])
        with lock, torch.no_grad():
            ids, steps, chosen = list(model.encode(text).row.ids), [], []
            for _ in range(min(request["max_tokens"], 4)):
                row = torch.tensor([ids + chosen])
                logits = model.module(input_ids=row).logits[0, -1].log_softmax(-1)
                top = logits.topk(10)
                if int(top.indices[0]) == model.tokenizer.eos_token_id:
                    break
                pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
                pieces = {model.piece(token): value for token, value in pairs}
                steps.append((model.piece(int(top.indices[0])), pieces))
                chosen.append(int(top.indices[0]))
        return completion("".join(token for token, _ in steps), steps if request.get("logprobs") else ())

    return reply
