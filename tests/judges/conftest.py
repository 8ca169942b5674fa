"""Starts the simulators on loopback, with ports of their own, and ends them."""

import json
import os
import pathlib
import queue
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest

BINARY = os.environ["SIMULATORS_BIN"]


class Refused(Exception):
    """The admin API said no."""

    def __init__(self, status, body):
        super().__init__(f"{status}: {body}")
        self.status, self.body = status, body


class Simulator:
    """A simulator that runs as a process."""

    def __init__(self, name, *arguments):
        self.log = []
        self.process = subprocess.Popen(
            [BINARY, name, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        lines = queue.Queue()
        threading.Thread(target=lambda: lines.put(self.process.stdout.readline()), daemon=True).start()
        threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True).start()
        try:
            ready = json.loads(lines.get(timeout=30))
        except (queue.Empty, ValueError) as error:
            self.process.kill()
            raise RuntimeError(f"{name} did not start: {''.join(self.log)}") from error
        self.listen, self.admin_address = ready["listen"], ready["admin"]
        self.port = int(self.listen.rsplit(":", 1)[1])
        self.url = f"http://{self.listen}"

    def admin(self, method, path, body=None):
        request = urllib.request.Request(f"http://{self.admin_address}{path}", method=method)
        if body is not None:
            request.add_header("content-type", "application/json")
            request.data = json.dumps(body).encode()
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read().decode()
        except urllib.error.HTTPError as error:
            raise Refused(error.code, error.read().decode()) from None
        return json.loads(text) if text.startswith(("{", "[")) else text

    def get(self, path):
        return self.admin("GET", path)

    def put(self, path, body):
        return self.admin("PUT", path, body)

    def post(self, path, body=None):
        return self.admin("POST", path, body if body is not None else {})

    def delete(self, path):
        return self.admin("DELETE", path)

    def stop(self):
        """Asks it to end and says with what exit code it did."""
        self.process.terminate()
        return self.process.wait(timeout=10)

    def kill(self):
        self.process.kill()
        self.process.wait(timeout=10)


class Fleet:
    """Everything that one test started."""

    def __init__(self):
        self.running = []

    def start(self, name, *arguments):
        simulator = Simulator(name, *map(str, arguments))
        self.running.append(simulator)
        return simulator

    def directory(self, *arguments):
        return self.start("directory", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", *arguments)

    def controller(self, directory, directory_id, address, *arguments):
        controller = self.start(
            "controller", "--directory-url", f"http://{directory.admin_address}", "--directory-id", directory_id,
            "--advertise-ip", address, "--admin", "127.0.0.1:0", *arguments,
        )
        until(lambda: controller.get("/state")["registered"])
        return controller

    def duo(self, *arguments):
        return self.start("duo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", *arguments)

    def okta(self, *arguments):
        return self.start("okta", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", *arguments)

    def end(self):
        for simulator in self.running:
            if simulator.process.poll() is None:
                simulator.kill()


def until(condition, seconds=30):
    """Waits until a condition holds, and gives what it gave."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s")
        time.sleep(0.02)


@pytest.fixture
def fleet():
    fleet = Fleet()
    yield fleet
    fleet.end()


@pytest.fixture(scope="module")
def shared_fleet():
    fleet = Fleet()
    yield fleet
    fleet.end()


@pytest.fixture
def config(tmp_path):
    """Writes a config file and gives its path."""

    def write(text) -> pathlib.Path:
        path = tmp_path / "config.toml"
        path.write_text(text)
        return path

    return write
