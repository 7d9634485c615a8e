"""Pods as a kubelet makes them, without containers: what they mount, their variables, their user, their probes."""

import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request

from chart import resolved

USER = 65532
IS_ROOT = os.geteuid() == 0


def run_as_pod(command, environment, **more):
    """Starts a program as the pods' user where this one may, with no directory that it can write."""
    identity = {"user": USER, "group": USER, "extra_groups": []} if IS_ROOT else {}
    return subprocess.Popen(command, env=environment, cwd="/", stdin=subprocess.DEVNULL, **identity, **more)


class Secrets:
    """Secrets by name and key, as `kubectl create secret` was told to make them."""

    def __init__(self, directory):
        self.directory = directory

    def read(self, name, key):
        path = self.directory / name / key
        assert path.exists(), f"the Secret {name} has no key {key}: the pod would not start"
        return path.read_bytes()

    def keys(self, name):
        return sorted(path.name for path in (self.directory / name).iterdir())


class Pod:
    """A pod template of the chart, with its files below a directory. `words` are replaced in what it is told:
    addresses of a cluster by those of this machine."""

    def __init__(self, chart, template, secrets, place, words):
        self.chart, self.spec, self.secrets, self.place = chart, template["spec"], secrets, place
        self.container = self.spec["containers"][0]
        self.words = words
        self.process = None
        self.log = place / "log"
        place.mkdir(parents=True)
        volumes = {it["name"]: it for it in self.spec.get("volumes", [])}
        for mount in self.container.get("volumeMounts", []):
            self.mount(mount["mountPath"], volumes[mount["name"]])

    def said(self, text):
        for old, new in self.words:
            text = text.replace(old, new)
        # Longer ones first: /etc/hpns/keys is in /etc/hpns.
        paths = sorted((it["mountPath"] for it in self.container.get("volumeMounts", [])), key=len, reverse=True)
        for path in paths:
            text = text.replace(path, str(self.place) + path)
        return text.replace('/etc/hpns"', f'{self.place}/etc/hpns"')

    def mount(self, path, volume):
        directory = self.place / path.lstrip("/")
        directory.mkdir(parents=True)
        if "emptyDir" in volume:
            if IS_ROOT:
                os.chown(directory, USER, USER)
            return
        # A kubelet exchanges all files of a volume at once, by a link.
        inner = directory / "..2026_01_01"
        inner.mkdir()
        (directory / "..data").symlink_to(inner.name)
        for name, content, mode in self.files(volume):
            file = inner / name
            file.write_bytes(content)
            if IS_ROOT:
                os.chown(file, 0, USER)
            os.chmod(file, mode)
            (directory / name).symlink_to(f"..data/{name}")

    def files(self, volume):
        mode = volume.get("projected", {}).get("defaultMode")
        for source in volume.get("projected", {}).get("sources", []) or [volume]:
            if "secret" in source:
                it = source["secret"]
                name = it.get("secretName") or it["name"]
                items = it.get("items") or [{"key": key, "path": key} for key in self.secrets.keys(name)]
                for item in items:
                    yield item["path"], self.secrets.read(name, item["key"]), it.get("defaultMode", mode)
            else:
                it = source["configMap"]
                data = next(m for m in self.chart.all("ConfigMap") if m["metadata"]["name"] == it["name"])["data"]
                items = it.get("items") or [{"key": key, "path": key} for key in data]
                for item in items:
                    yield item["path"], self.said(data[item["key"]]).encode(), it.get("defaultMode", mode or 0o644)

    def environment(self):
        variables = {"PATH": os.environ["PATH"]}
        for variable in self.container.get("env", []):
            if "valueFrom" in variable:
                reference = variable["valueFrom"]["secretKeyRef"]
                value = self.secrets.read(reference["name"], reference["key"]).decode()
            else:
                value = re.sub(r"\$\((\w+)\)", lambda it: variables.get(it[1], it[0]), variable["value"])
                value = self.said(value)
            variables[variable["name"]] = value
        return variables

    def command(self, entrypoint):
        words = self.container.get("command") or [str(entrypoint)]
        return [self.said(word) for word in words + self.container.get("args", [])]

    def start(self, entrypoint):
        self.log.touch()
        with self.log.open("ab") as log:
            self.process = run_as_pod(self.command(entrypoint), self.environment(), stdout=log, stderr=log)

    def run(self, entrypoint, seconds=60):
        """Runs it to its end; returns the exit status and what it printed."""
        return self.exec(self.command(entrypoint), seconds)

    def exec(self, command, seconds=60):
        process = run_as_pod(command, self.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            printed, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        return process.returncode, printed.decode(errors="replace")

    def probe(self, name):
        """Asks as a kubelet would, once; returns whether it is content, and what was said."""
        probe = self.container[name]
        seconds = probe.get("timeoutSeconds", 1)
        if "exec" in probe:
            status, printed = self.exec([self.said(word) for word in probe["exec"]["command"]], seconds)
            return status == 0, printed
        asks = probe["httpGet"]
        port = resolved(asks["port"], self.spec)
        address = self.said(f"0.0.0.0:{port}")
        return get(f"http://{address}{asks['path']}", seconds)

    def until(self, name):
        """Waits as long as the probe's threshold allows."""
        probe = self.container[name]
        said = "nothing"
        end = time.monotonic() + probe["periodSeconds"] * probe["failureThreshold"] + 30
        while time.monotonic() < end:
            assert self.process.poll() is None, f"it has ended:\n{self.tail()}"
            good, said = self.probe(name)
            if good:
                return
            time.sleep(0.1)
        raise AssertionError(f"{name}: {said}\n{self.tail()}")

    def stop(self):
        """As Kubernetes ends a pod; returns the exit status, and how long it took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(self.spec["terminationGracePeriodSeconds"])
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it would have been killed:\n{self.tail()}") from None
        return status, time.monotonic() - began

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def denied(self):
        """Lines of its log that tell of rights which it lacks, at PostgreSQL or a lane."""
        words = ("permission denied", "NOPERM", "WRONGPASS", "password authentication")
        return [it for it in self.log.read_text().splitlines() if any(word in it for word in words)]

    def tail(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-8:])


def get(url, seconds=5):
    try:
        with urllib.request.urlopen(url, timeout=seconds) as answer:
            return True, answer.read().decode()
    except urllib.error.HTTPError as error:
        return False, f"{error.code} {error.read().decode()[:200]}"
    except OSError as error:
        return False, str(error)
