"""A directory with the program, credentials of nobody, and the Secrets that the README's commands make."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from chart import CHART, ROOT
from pods import Pod, Secrets
from registered import Missing

# Credentials as Apple and Google give them, and an authority for the servers of this machine.
CREDENTIALS = """
exec 2>/dev/null
curve='-pkeyopt ec_paramgen_curve:P-256'
openssl genpkey -algorithm EC $curve -out ios.p8
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out android.pem
openssl req -x509 -newkey ec $curve -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=authority
openssl req -newkey ec $curve -nodes -keyout tls.key -out tls.csr -subj /CN=server
echo 'subjectAltName=IP:127.0.0.1,DNS:push.us.example.com,DNS:hpns-lane-0,DNS:hpns-lane-1' >names
openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out tls.crt
"""
# Stands for kubectl in the README's commands.
KUBECTL = """#!/bin/sh
set -eu
[ "$1 $2" = "--namespace push" ] && shift 2
[ "$1 $2 $3" = "create secret generic" ]
name=$4
shift 4
mkdir -p "$SECRETS/$name"
for file in "$@"; do
  file=${file#--from-file=}
  cp "${file#*=}" "$SECRETS/$name/${file%%=*}"
done
"""


def program():
    """The real program, the newest that is built."""
    built = [path for path in (ROOT / "target/release/hpns", ROOT / "target/debug/hpns") if path.exists()]
    if not built:
        raise Missing("there is no target/release/hpns")
    newest = max(built, key=lambda path: path.stat().st_mtime)
    reference = subprocess.run([newest, "config", "reference"], capture_output=True, text=True)
    if reference.stdout != (ROOT / "crates/hpns/src/config/default.toml").read_text():
        raise Missing(f"{newest.relative_to(ROOT)} is older than its settings: build it")
    return newest


def readme_block(language, number=0):
    return re.findall(rf"```{language}\n(.*?)```", (CHART / "README.md").read_text(), re.S)[number]


def shell(script, directory, **variables):
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=directory,
        capture_output=True,
        text=True,
        env=os.environ | variables,
    )
    assert run.returncode == 0, f"{script}\n{run.stdout}{run.stderr}"
    return run.stdout


class Workshop:
    """A directory with the program and the Secrets that the README makes."""

    def __init__(self):
        self.directory = Path(tempfile.mkdtemp(prefix="hpns-helm-"))
        self.directory.chmod(0o755)
        self.pods, self.others = [], []
        try:
            self.prepare()
        except BaseException:
            self.close()
            raise

    def prepare(self):
        tools, keys = self.directory / "bin", self.directory / "keys"
        tools.mkdir(), keys.mkdir(mode=0o700)
        self.hpns = tools / "hpns"
        shutil.copy(program(), self.hpns)
        self.hpns.chmod(0o755)
        (tools / "kubectl").write_text(KUBECTL)
        (tools / "kubectl").chmod(0o755)
        # Of nobody.
        shell(CREDENTIALS, keys)
        account = {
            "type": "service_account",
            "project_id": "example-chat",
            "private_key_id": "1",
            "private_key": (keys / "android.pem").read_text(),
            "client_email": "push@example-chat.iam.gserviceaccount.com",
        }
        (keys / "android.json").write_text(json.dumps(account))
        made = self.directory / "secrets"
        made.mkdir(mode=0o700)
        shell(readme_block("sh"), keys, PATH=f"{tools}:{os.environ['PATH']}", SECRETS=str(made))
        # Those that the README leaves to whoever has them.
        for name, files in {
            "hpns-push-tls": ("tls.crt", "tls.key"),
            "hpns-lanes-tls": ("tls.crt", "tls.key", "ca.crt"),
            "lanes-authority": ("ca.crt",),
        }.items():
            (made / name).mkdir()
            for file in files:
                shutil.copy(keys / file, made / name / file)
        (made / "hpns-proxy").mkdir()
        (made / "hpns-proxy/proxy-url").write_text("http://ada:secret@10.1.7.7:3128")
        self.keys, self.secrets = keys, Secrets(made)

    def pod(self, chart, template, name, words=()):
        pod = Pod(chart, template, self.secrets, self.directory / "pods" / chart.shape / name, words)
        self.pods.append(pod)
        return pod

    def password(self, name):
        return (self.keys / name).read_text()

    def close(self):
        for pod in self.pods:
            pod.kill()
        for process in self.others:
            # A fast shutdown, for PostgreSQL.
            process.send_signal(signal.SIGINT)
            process.wait()
        shutil.rmtree(self.directory)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
