#!/usr/bin/env python3
"""What a VM at Google or at Azure finds around it, for the tests beside this.

    cloud.py DIR ADDRESS

The metadata servers on 169.254.169.254:80; on ADDRESS:443 with TLS Secret
Manager, Cloud Storage, Vertex AI, a Key Vault and a web server, told apart by
their names. In DIR:

    attributes/NAME    of Google's instance
    secrets/NAME       latest version
    objects/BUCKET/OBJECT; objects/conf is the web server's, too
    tls.pem, tls.key   for all names
    requests           a line for each: server, method, path, status
"""

import base64
import http.server
import json
import os
import ssl
import sys
import threading
import urllib.parse

home, address = sys.argv[1:3]
TOKEN = "ya29.the-token-of-this-vm"
lock = threading.Lock()


def read(*path):
    """The bytes of a file, None when there is none."""
    try:
        with open(os.path.join(home, *path), "rb") as f:
            return f.read()
    except (FileNotFoundError, IsADirectoryError):
        return None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def send(self, status, body, **headers):
        with lock, open(os.path.join(home, "requests"), "a") as f:
            f.write(f"{self.name} {self.command} {self.path} {status}\n")
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Metadata(Handler):
    name = "metadata"

    def do_GET(self):
        start = "/computeMetadata/v1/"
        azure = ("/metadata/identity/oauth2/token?api-version=2018-02-01"
                 "&resource=https%3A%2F%2Fvault.azure.net")
        token = {"access_token": TOKEN, "expires_in": 3599,
                 "token_type": "Bearer"}

        if self.headers["Metadata"] == "true" and self.path == azure:
            # all of them strings, there
            return self.send(200, json.dumps(
                {k: str(v) for k, v in token.items()}).encode())
        if (self.headers["Metadata-Flavor"] != "Google"
                or not self.path.startswith(start)):
            return self.send(403, b"")

        what = self.path[len(start):]
        if what == "project/project-id":
            body = b"my-project"
        elif what == "instance/service-accounts/default/token":
            body = json.dumps(token).encode()
        elif what.startswith("instance/attributes/"):
            body = read("attributes", what[20:])
        else:
            body = None
        self.send(404 if body is None else 200, body or b"",
                  Metadata_Flavor="Google")


class Api(Handler):
    name = "api"

    def allowed(self):
        return self.headers["Authorization"] == f"Bearer {TOKEN}"

    def do_GET(self):
        host = self.headers["Host"]
        path = self.path.split("?")[0].split("/")
        body = None

        if host == "example.com":
            body = read("objects", "conf", path[-1])
            return self.send(404 if body is None else 200, body or b"")

        if not self.allowed():
            return self.send(401, b"{}")

        if host == "secretmanager.googleapis.com":
            # /v1/projects/P/secrets/NAME/versions/latest:access
            body = read("secrets", path[5])
            if body is not None:
                text = json.dumps({"name": self.path, "payload": {
                    "data": base64.b64encode(body).decode()}}, indent=2)
                body = text.encode()
        elif host == "storage.googleapis.com":
            # /storage/v1/b/BUCKET/o/OBJECT?alt=media
            body = read("objects", path[4], urllib.parse.unquote(path[6]))

        elif host == "my-vault.vault.azure.net":
            # /secrets/NAME?api-version=7.4
            body = read("secrets", path[2])
            if body is not None:
                body = json.dumps({"value": body.decode(), "id": "x"}).encode()

        self.send(404 if body is None else 200, body or b"{}")

    def do_POST(self):
        text = self.rfile.read(int(self.headers["Content-Length"]))
        model = json.loads(text)["model"]

        if not self.allowed():
            return self.send(401, b"{}")

        self.send(200, json.dumps({
            "object": "chat.completion", "model": model, "choices": [
                {"message": {"role": "assistant", "content": "Vertex"}}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1}}).encode(),
            Content_Type="application/json")


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(os.path.join(home, "tls.pem"),
                        os.path.join(home, "tls.key"))
api = http.server.ThreadingHTTPServer((address, 443), Api)
api.socket = context.wrap_socket(api.socket, server_side=True)
threading.Thread(target=api.serve_forever, daemon=True).start()
http.server.ThreadingHTTPServer(("169.254.169.254", 80),
                                Metadata).serve_forever()
