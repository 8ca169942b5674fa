"""The shipped proxy, run as a process on loopback, and radclient to ask it."""

import base64
import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import time
import urllib.request

import pyotp

from conftest import until

BINARY = os.environ["RADIUS_PROXY_BIN"]
SECRET = "a shared secret of the judges"
OLD_SECRET = "the secret before that one"
# One for each test that logs in: a code is good for one login.
USERS = 200

# Where a client sends from decides what it is to the proxy.
PLAIN = "127.0.0.6"
DIRECTORY = "127.0.0.7"
STRICT = "127.0.0.8"
CONFIG = """
[server]
listen = [LISTEN]
admin = "127.0.0.1:0"
records = "records.jsonl"
drain_seconds = 5
digest_key_file = "digest-key"

PROVIDER

[policy.user_names]
lower_case = false

[[clients]]
name = "judges"
networks = ["127.0.0.0/8", "::1"]
secret_files = ["secret", "old-secret"]
timeout_seconds = 10
retries = 1
accept_attributes = [{ name = "Class", value = "judged" }, { name = "Filter-Id", value = "vpn" }]

[[clients]]
name = "directory"
networks = ["127.0.0.7"]
secret_files = ["secret"]
directory = true
timeout_seconds = 10
retries = 1

[[clients]]
name = "strict"
networks = ["127.0.0.8"]
secret_files = ["secret"]
message_authenticator = "always"
timeout_seconds = 10
retries = 1
"""
STORE_PASSWORD = "the store's password"
TOTP = '[provider.totp]\nseed_folders = ["seeds"]'


def upstream(port, secret):
    return f"""
[provider.radius]
timeout_seconds = 1
tries = 2
status_server = false
return_attributes = ["Filter-Id"]
[[provider.radius.servers]]
address = "127.0.0.1:{port}"
secret_file = "upstream-secret"
""", secret


@dataclasses.dataclass
class User:
    """Somebody with an authenticator app."""

    name: str
    seed: str

    def code(self):
        return pyotp.TOTP(self.seed).now()

    def wrong_code(self):
        totp = pyotp.TOTP(self.seed)
        now = int(time.time()) // 30
        near = {totp.generate_otp(now + step) for step in range(-5, 6)}
        return next(code for code in ("000000", "111111", "222222", "333333") if code not in near)


class Proxy:
    """A running one."""

    def __init__(self, folder: pathlib.Path, provider=TOTP, upstream_secret="", listen='"127.0.0.1:0"', clients=""):
        folder.mkdir(exist_ok=True)
        self.folder = folder
        (folder / "seeds").mkdir()
        self.users = [User(f"user{n}", base64.b32encode(f"seed of user {n:07}".encode()).decode()) for n in range(USERS)]
        lines = [f"otpauth://totp/{user.name}?secret={user.seed}\n" for user in self.users]
        (folder / "seeds" / "all").write_text("".join(lines))
        (folder / "secret").write_text(SECRET)
        (folder / "old-secret").write_text(OLD_SECRET)
        (folder / "upstream-secret").write_text(upstream_secret)
        (folder / "digest-key").write_text("the same on every proxy")
        (folder / "store-password").write_text(STORE_PASSWORD)
        (folder / "config.toml").write_text(CONFIG.replace("PROVIDER", provider).replace("LISTEN", listen) + clients)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("RUST_LOG", "RADIUS_PROXY_CONFIG"))}
        command = [BINARY, "serve", "--log-format", "json", "--config", folder / "config.toml"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        self.log = []
        threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True).start()
        serving = until(self.serving)
        self.address = serving["listen"]
        self.port = int(self.address.rsplit(":", 1)[1])
        self.admin = serving["admin"]

    def serving(self):
        assert self.process.poll() is None, self.log
        return next((json.loads(line) for line in list(self.log) if '"serving"' in line), None)

    def user(self):
        """One who has not logged in yet."""
        return self.users.pop()

    def metric(self, name):
        """The value of a series, by its whole name with labels; 0 when it is not there."""
        with urllib.request.urlopen(f"http://{self.admin}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        values = [line.rsplit(" ", 1)[1] for line in lines if line.startswith(name + " ")]
        return float(values[0]) if values else 0.0

    def dropped(self, reason):
        return self.metric(f'radius_proxy_drops_total{{reason="{reason}"}}')

    def records(self, user, count=1):
        """What was recorded of a user's logins, once there are so many of them: records are written a little later than answers are sent."""

        def read():
            text = (self.folder / "records.jsonl").read_text()
            found = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
            found = [record for record in found if record["user"] == user]
            return found if len(found) >= count else None

        return until(read)

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def end(self):
        self.thaw()
        self.process.kill()
        self.process.wait()


@dataclasses.dataclass
class Said:
    """What radclient or radtest printed, and how it ended."""

    code: int
    text: str

    @property
    def answer(self):
        """`accept`, `reject`, or `none`: answers that radclient does not believe are none."""
        # radclient ends with 0 for an Accept or a Status-Server's answer, with 1 for a Reject and for no answer.
        if "Received Access-Accept" in self.text and self.code == 0:
            return "accept"
        if "Received Access-Reject" in self.text and "No reply" not in self.text:
            return "reject"
        return "none"

    def values(self, name):
        received = self.text.split("Received ", 1)[-1]
        return re.findall(rf"^\s+{name} = (.*)$", received, re.MULTILINE)

    def value(self, name):
        (value,) = self.values(name)
        return value


def radclient(port, lines, kind="auth", secret=SECRET, source=PLAIN, host="127.0.0.1", tries=1, timeout=5, options=()):
    """Sends one packet. It leaves from `source`, which says which client this is."""
    text = "".join(f"{line}\n" for line in [*lines, *([f"Packet-Src-IP-Address = {source}"] if source else [])])
    command = ["radclient", "-x", "-r", str(tries), "-t", str(timeout), *options, f"{host}:{port}", kind, secret]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)
    return Said(done.returncode, done.stdout + done.stderr)
