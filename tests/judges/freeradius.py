"""A FreeRADIUS of the tests' own: the server that is asked, or the proxy in front of one."""

import os
import pathlib
import random
import socket
import subprocess

from conftest import until

FREERADIUS = os.environ.get("JUDGES_FREERADIUS", "")
SECRET = "correct horse battery"

SIGNED_ANSWERS = """
            post-auth {
                update reply {
                    Message-Authenticator := 0x00
                }
                Post-Auth-Type REJECT {
                    update reply {
                        Message-Authenticator := 0x00
                    }
                }
            }
"""


def free_port():
    """A port that is free for UDP and TCP, from below those that the system gives out by itself: nobody takes it meanwhile by chance."""
    for port in random.sample(range(10_000, 30_000), 100):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            try:
                udp.bind(("127.0.0.1", port))
                tcp.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("a hundred ports in a row are taken")


def config(folder: pathlib.Path, port: int, demand: bool, parts: str, sections: str, threads: int, status: bool):
    """What all kinds have: everything below one folder, one client, loopback only."""
    return f"""
        prefix = /usr
        libdir = /usr/lib/freeradius
        name = judge
        logdir = {folder}
        radacctdir = {folder}
        run_dir = {folder}
        pidfile = {folder}/judge.pid
        max_request_time = 10
        security {{
            max_attributes = 200
            reject_delay = 0
            status_server = {"yes" if status else "no"}
        }}
        thread pool {{
            start_servers = {threads // 4}
            max_servers = {threads}
            min_spare_servers = {threads // 4}
            max_spare_servers = {threads // 2}
        }}
        client loopback {{
            ipaddr = 127.0.0.0/8
            secret = "{SECRET}"
            require_message_authenticator = {"yes" if demand else "no"}
        }}
        {parts}
        server judge {{
            listen {{
                type = auth
                ipaddr = 127.0.0.1
                port = {port}
            }}
            {sections}
        }}
        """


class FreeRadius:
    """A running one."""

    def __init__(self, folder: pathlib.Path, demand: bool, parts: str, sections: str, threads=4, status=True):
        folder.mkdir(exist_ok=True)
        self.port = free_port()
        (folder / "dictionary").write_text("$INCLUDE /usr/share/freeradius/dictionary\n")
        (folder / "radiusd.conf").write_text(config(folder, self.port, demand, parts, sections, threads, status))
        self.log = open(folder / "log", "w+")
        command = [FREERADIUS, "-f", "-l", "stdout", "-d", folder, "-n", "radiusd", "-x"]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)

    def said(self):
        self.log.flush()
        return pathlib.Path(self.log.name).read_text()

    def wait(self):
        def ready():
            assert self.process.poll() is None, self.said()
            return "Ready to process requests" in self.said()

        until(ready)

    def end(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


def server(folder: pathlib.Path, demand: bool, signed: bool = True):
    """Knows alice and bob and their pass phrases, by every method."""
    folder.mkdir(exist_ok=True)
    (folder / "users").write_text(
        'alice Cleartext-Password := "pass phrase é"\n    Reply-Message := "Welcome"\n\n'
        'bob Cleartext-Password := "horse staple"\n    Reply-Message := "Hello",\n    Filter-Id := "from-behind"\n\n'
        'DEFAULT Auth-Type := Reject\n    Reply-Message := "Go away"\n'
    )
    modules = f"""
        modules {{
            pap {{
            }}
            chap {{
            }}
            mschap {{
                with_ntdomain_hack = yes
            }}
            files {{
                usersfile = {folder}/users
            }}
        }}
    """
    sections = f"""
            authorize {{
                chap
                mschap
                files
                pap
            }}
            authenticate {{
                Auth-Type PAP {{
                    pap
                }}
                Auth-Type CHAP {{
                    chap
                }}
                Auth-Type MS-CHAP {{
                    mschap
                }}
            }}
            {SIGNED_ANSWERS if signed else ""}
    """
    return FreeRadius(folder, demand, modules, sections)


def nps(folder: pathlib.Path, demand: bool, delay: int):
    """In the place of a Microsoft NPS with the Entra extension: it answers no Status-Server, and an Access-Accept waits until
    somebody has approved a push. Everybody has the same password; whoever is called `ignores…` never looks at the phone."""
    folder.mkdir(exist_ok=True)
    (folder / "users").write_text('DEFAULT Cleartext-Password := "Winter2026"\n')
    modules = f"""
        modules {{
            pap {{
            }}
            chap {{
            }}
            mschap {{
                with_ntdomain_hack = yes
            }}
            files {{
                usersfile = {folder}/users
            }}
            exec push {{
                wait = yes
                program = "/bin/sleep {delay}"
                timeout = 10
            }}
        }}
    """
    sections = f"""
            authorize {{
                chap
                mschap
                files
                pap
            }}
            authenticate {{
                Auth-Type PAP {{
                    pap
                }}
                Auth-Type CHAP {{
                    chap
                }}
                Auth-Type MS-CHAP {{
                    mschap
                }}
            }}
            post-auth {{
                if (&User-Name =~ /ignores/) {{
                    update control {{
                        Response-Packet-Type := Do-Not-Respond
                    }}
                }}
                else {{
                    push
                }}
                update reply {{
                    Message-Authenticator := 0x00
                }}
                Post-Auth-Type REJECT {{
                    update reply {{
                        Message-Authenticator := 0x00
                    }}
                }}
            }}
    """
    return FreeRadius(folder, demand, modules, sections, threads=16, status=False)


def front(folder: pathlib.Path, home_port: int, home_secret: str):
    """Passes everything on to one home server, with Proxy-State, and asks Status-Server of it when it is silent."""
    realm = f"""
        proxy_requests = yes
        home_server behind {{
            type = auth
            ipaddr = 127.0.0.1
            port = {home_port}
            secret = "{home_secret}"
            response_window = 3
            zombie_period = 20
            status_check = status-server
            check_interval = 6
            check_timeout = 4
            num_answers_to_alive = 3
        }}
        home_server_pool behind {{
            type = fail-over
            home_server = behind
        }}
        realm behind {{
            auth_pool = behind
            nostrip
        }}
        modules {{
        }}
    """
    sections = """
            authorize {
                update control {
                    Proxy-To-Realm := "behind"
                }
            }
            authenticate {
            }
    """
    return FreeRadius(folder, False, realm, sections)
