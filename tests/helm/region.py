"""What is rendered, started with the real program, Redis and PostgreSQL on this machine: commands, files, variables
and probes as they stand in the documents, addresses of the cluster replaced by those of this machine. Secrets and the
database are made by the commands of the chart's README."""

import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

import yaml

from chart import ROLES, Rendered
from pods import IS_ROOT, get
from registered import Missing
from workshop import Workshop, program, readme_block

LAWS = {}
# Shapes whose configuration is another one for hpns.
CONFIGURED = ("us", "de", "external-lanes", "both-lanes", "ingress", "own-tls", "proxy", "still")
ADDRESS = "127.0.0.1"


def law(function):
    LAWS[function.__name__] = function
    return function


def free_port():
    with socket.socket() as it:
        it.bind((ADDRESS, 0))
        return it.getsockname()[1]


def postgres_directory():
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        raise Missing("there is no PostgreSQL")
    return found[-1].parent


@law
def hpns_takes_the_configuration_that_is_rendered():
    with Workshop() as workshop:
        for shape in CONFIGURED:
            chart = Rendered(shape)
            for role in ROLES:
                pod = workshop.pod(chart, chart.one("Deployment", role)["spec"]["template"], role)
                command = pod.command(workshop.hpns)
                assert command[1] == role, command
                status, printed = pod.exec([str(workshop.hpns), "check-config", *command[2:]])
                lines = printed.splitlines()
                assert lines and lines[0].startswith("configuration: ok"), f"{shape}, {role}: {printed}"
                wrong = [line for line in lines if ": ok" not in line]
                if role != "worker":
                    # Only workers have credentials.
                    wrong = [line for line in wrong if not (line.startswith("app ") and "No such file" in line)]
                else:
                    assert status == 0, f"{shape}, {role}: {printed}"
                    apps = 0 if shape == "still" else 2
                    assert len([line for line in lines if line.startswith("app ")]) == apps, printed
                assert not wrong, f"{shape}, {role}: {wrong}"
                assert (shape, role) != ("own-tls", "gateway") or any("gateway.tls: ok" in it for it in lines), (
                    printed
                )
            if chart.has("Pod", "test-credentials"):
                pod = workshop.pod(chart, chart.one("Pod", "test-credentials"), "test-credentials")
                # Nobody is asked from here.
                command = [word for word in pod.command(workshop.hpns) if word != "--dry-run"]
                status, printed = pod.exec(command)
                assert status == 0, f"{shape}, test-credentials: {printed}"
            if chart.has("Job", "migrate"):
                pod = workshop.pod(chart, chart.one("Job", "migrate")["spec"]["template"], "migrate")
                status, printed = pod.exec([str(workshop.hpns), "check-config"])
                assert status == 0, f"{shape}, migrate: {printed}"


@law
def the_rules_that_hpns_prints_are_taken():
    printed = subprocess.run([program(), "sla", "rules"], capture_output=True, text=True, check=True).stdout
    chart = Rendered("monitoring", yaml.safe_dump({"monitoring": {"rules": {"text": printed}}}))
    spec = chart.one("PrometheusRule", "service-level")["spec"]
    assert spec == yaml.safe_load(printed) and len(spec["groups"]) == 3, spec


class Region:
    """Lanes and PostgreSQL on ports of their own, and what words of the chart mean here."""

    def __init__(self, workshop, chart):
        self.workshop, self.chart = workshop, chart
        self.lanes = [free_port(), free_port()]
        self.database = free_port()
        self.ports = {role: {port: free_port() for port in (8066, 8067, 8068)} for role in ROLES}

    def words(self, role=None):
        words = [(f"@hpns-lane-{number}:6379", f"@{ADDRESS}:{port}") for number, port in enumerate(self.lanes)]
        words.append(("postgres.us.internal:5432", f"{ADDRESS}:{self.database}"))
        words.append(("http://hpns-gateway:8066", f"http://{ADDRESS}:{self.ports['gateway'][8066]}"))
        for port, here in self.ports.get(role, {}).items():
            words.append((f"0.0.0.0:{port}", f"{ADDRESS}:{here}"))
        return words

    def start_lanes(self):
        if not shutil.which("redis-server"):
            raise Missing("there is no redis-server")
        template = self.chart.one("StatefulSet", "lane")["spec"]["template"]
        started = []
        for number, port in enumerate(self.lanes):
            words = [("port 6379", f"port {port}"), ("-p 6379", f"-p {port}"), ("bind * -::*", f"bind {ADDRESS}")]
            pod = self.workshop.pod(self.chart, template, f"lane-{number}", words)
            pod.start(None)
            started.append(pod)
        for pod in started:
            pod.until("livenessProbe")
        return started

    def start_postgres(self):
        """With TLS, by the authority whose certificate the README's Secret has, and passwords."""
        binaries, data = postgres_directory(), self.workshop.directory / "postgres"
        data.mkdir()
        keys = self.workshop.keys
        for file in ("tls.crt", "tls.key"):
            shutil.copy(keys / file, data.parent / f"postgres-{file}")
        identity = {}
        if IS_ROOT:
            identity = {"user": "postgres", "group": "postgres", "extra_groups": []}
            for path in (data, data.parent / "postgres-tls.crt", data.parent / "postgres-tls.key"):
                shutil.chown(path, "postgres", "postgres")
        (data.parent / "postgres-tls.key").chmod(0o600)
        data.chmod(0o700)
        password = data.parent / "postgres-password"
        password.write_text("administrator")
        password.chmod(0o644)
        subprocess.run(
            [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "scram-sha-256", f"--pwfile={password}", "-N"],
            check=True,
            capture_output=True,
            cwd="/",
            **identity,
        )
        settings = {
            "listen_addresses": ADDRESS,
            "port": self.database,
            "unix_socket_directories": "",
            "fsync": "off",
            "ssl": "on",
            "ssl_cert_file": f"{data.parent}/postgres-tls.crt",
            "ssl_key_file": f"{data.parent}/postgres-tls.key",
        }
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        with (data.parent / "postgres.log").open("wb") as log:
            server = subprocess.Popen(
                [binaries / "postgres", "-D", data, *options], stdout=log, stderr=log, cwd="/", **identity
            )
        self.workshop.others.append(server)
        for _ in range(300):
            asked = subprocess.run([binaries / "pg_isready", "-q", "-h", ADDRESS, "-p", str(self.database)])
            if asked.returncode == 0:
                break
            assert server.poll() is None, (data.parent / "postgres.log").read_text()
            time.sleep(0.1)
        passwords = {
            name: self.workshop.password(f"postgres-{name}") for name in ("owner", "gateway", "worker", "admin")
        }
        variables = [f"--set={name}={value}" for name, value in passwords.items()]
        done = subprocess.run(
            [
                binaries / "psql",
                "-X",
                "-q",
                "-v",
                "ON_ERROR_STOP=1",
                "-h",
                ADDRESS,
                "-p",
                str(self.database),
                "-U",
                "postgres",
                *variables,
            ],
            input=readme_block("sql"),
            capture_output=True,
            text=True,
            env=os.environ | {"PGPASSWORD": "administrator"},
        )
        assert done.returncode == 0, done.stderr

    def pod(self, role):
        template = self.chart.one("Deployment", role)["spec"]["template"]
        return self.workshop.pod(self.chart, template, role, self.words(role))

    def job(self, name="migrate", more=""):
        chart = Rendered(self.chart.shape, more)
        pod = self.workshop.pod(chart, chart.one("Job", "migrate")["spec"]["template"], name, self.words())
        status, printed = pod.run(self.workshop.hpns)
        assert status == 0, printed
        return printed


def redis(port, user, password, *command):
    run = subprocess.run(
        ["redis-cli", "-h", ADDRESS, "-p", str(port), "--user", user, "--no-auth-warning", *command],
        capture_output=True,
        text=True,
        timeout=20,
        env=os.environ | {"REDISCLI_AUTH": password},
    )
    return (run.stdout + run.stderr).strip()


@law
def a_lane_lets_its_users_in_and_one_that_hangs_is_not_alive():
    with Workshop() as workshop:
        region = Region(workshop, Rendered("us"))
        lanes = region.start_lanes()
        port, gateway = region.lanes[0], workshop.password("lane-gateway")
        assert redis(port, "hpns-gateway", gateway, "PING") == "PONG"
        assert "WRONGPASS" in redis(port, "hpns-gateway", workshop.password("lane-worker"), "PING")
        assert "NOPERM" in redis(port, "hpns-gateway", gateway, "CONFIG", "SET", "save", "1 1")
        assert "NOPERM" in redis(port, "hpns-gateway", gateway, "KEYS", "*")
        assert redis(port, "hpns-gateway", gateway, "CONFIG", "GET", "maxmemory").split()[1] == str(512 << 20)
        # Its scratch is all that it could write, and holds hashes alone.
        users = (lanes[0].place / "run/lane/users.acl").read_text()
        assert gateway not in users and "_SHA256" not in users and users.count("#") == 4, users
        script = redis(port, "hpns-gateway", gateway, "SCRIPT", "LOAD", "while true do end")
        hanging = threading.Thread(target=redis, args=(port, "hpns-gateway", gateway, "EVALSHA", script, "0"))
        hanging.start()
        time.sleep(1)
        alive, said = lanes[0].probe("livenessProbe")
        assert not alive and "BUSY" in said, f"{alive}: {said}"
        assert lanes[1].probe("livenessProbe")[0]
        lanes[0].kill()
        hanging.join()
        status, seconds = lanes[1].stop()
        assert status == 0 and seconds < 5, f"{status} after {seconds} s"


@law
def a_lane_refuses_a_password_that_no_address_can_hold():
    with Workshop() as workshop:
        chart = Rendered("us")
        template = chart.one("StatefulSet", "lane")["spec"]["template"]
        for number, password in enumerate((b"", b"with an end\n", b"a@b", b"a:b")):
            (workshop.secrets.directory / "hpns-lanes/worker").write_bytes(password)
            status, printed = workshop.pod(chart, template, f"lane-{number}").run(None, 10)
            assert status == 1 and "the password of 'worker'" in printed, f"{password}: {status} {printed}"
            assert not password.strip() or password.decode().strip() not in printed, printed


@law
def a_worker_reaches_lanes_over_tls():
    with Workshop() as workshop:
        # One of the shape's three lanes is left away: two servers are enough for it.
        chart = Rendered("own-tls", "lanes: {inCluster: {replicas: 2}}")
        region = Region(workshop, chart)
        template = chart.one("StatefulSet", "lane")["spec"]["template"]
        for number, port in enumerate(region.lanes):
            words = [
                ("tls-port 6379", f"tls-port {port}"),
                ("-p 6379", f"-p {port}"),
                ("bind * -::*", f"bind {ADDRESS}"),
            ]
            pod = workshop.pod(chart, template, f"lane-{number}", words)
            pod.start(None)
            pod.until("livenessProbe")
        words = [("[::]:8068", f"{ADDRESS}:{region.ports['worker'][8068]}"), *region.words("worker")]
        worker = workshop.pod(chart, chart.one("Deployment", "worker")["spec"]["template"], "worker", words)
        worker.start(workshop.hpns)
        worker.until("startupProbe")
        worker.until("readinessProbe")
        assert worker.stop()[0] == 0, worker.tail()


@law
def a_region_starts_as_it_is_rendered_and_pushes_travel_through_it():
    with Workshop() as workshop:
        # A short drain, so that the test is short.
        chart = Rendered("us", "config: {server: {drain_seconds: 3}, gateway: {trusted_proxies: [10.0.0.0/8]}}")
        region = Region(workshop, chart)
        region.start_lanes()
        region.start_postgres()
        printed = region.job()
        assert "up to date" in printed and "not signed" not in printed, printed

        pods = {role: region.pod(role) for role in ("worker", "gateway", "admin")}
        for pod in pods.values():
            pod.start(workshop.hpns)
        for pod in pods.values():
            pod.until("startupProbe")
            pod.until("readinessProbe")
            assert pod.probe("livenessProbe")[0]
            good, metrics = get(pod.said("http://0.0.0.0:8068/metrics"))
            assert good and "# TYPE" in metrics, metrics
        # helm test: the request of the one pod, the other one as it is.
        asks = chart.one("Pod", "test-version")["spec"]["containers"][0]["command"][-1]
        good, version = get(pods["gateway"].said(asks))
        assert good and "version" in version, f"{asks}: {version}"
        test = workshop.pod(chart, chart.one("Pod", "test-credentials"), "test-credentials", region.words())
        status, printed = test.run(workshop.hpns)
        assert status == 0, printed

        push_through(workshop, region, pods)
        for role, pod in pods.items():
            assert not pod.denied(), f"{role}: {pod.denied()}"
        # An upgrade: the Job once more, beside everything; and the last step of one.
        region.job("migrate-again")
        region.job("migrate-finish", "migration: {finish: true}")
        assert pods["gateway"].probe("readinessProbe")[0]
        return leave(region, pods)


def push_through(workshop, region, pods):
    """The first token, as the chart's notes tell; a tenant, a key, and a push that reaches a worker."""
    config = pods["admin"].said("/etc/hpns/config/hpns.toml")
    status, token = pods["admin"].exec([str(workshop.hpns), "first-token", "--config", config])
    assert status == 0 and token.startswith("hpns_admin_"), token
    variables = os.environ | {
        "HPNS_ADMIN_URL": pods["admin"].said("http://0.0.0.0:8067"),
        "HPNS_ADMIN_TOKEN": token.strip(),
    }

    def hpns(*words, **more):
        run = subprocess.run([workshop.hpns, *words], capture_output=True, text=True, env=variables, **more)
        # What sends a push fails with it.
        assert run.returncode == 0 or "input" in more, f"{words}: {run.stdout}{run.stderr}"
        return run.stdout

    tenant = json.loads(hpns("tenant", "create", "Acme", "--json"))["id"]
    terms = ("--plan", "professional", "--region", "us", "--terms", "1", "--accepted-by", "Ada")
    licence = json.loads(hpns("licence", "create", tenant, *terms, "--json"))["id"]
    key = json.loads(hpns("key", "issue", licence, "--json"))
    variables["HPNS_PUSH_URL"] = pods["gateway"].said("http://0.0.0.0:8066") + f"/t/{key['key']}"
    answer = ""
    for _ in range(50):
        answer = hpns("send", "--platform", "android_rn-v2", "--type", "test", input="nobody:s-token")
        if "licence" not in answer:
            break
        time.sleep(0.1)
    # Google is not there, or does not know the account: the worker says so, and nobody else could.
    refused = re.search(r"FAIL\s+(provider_down|app_misconfigured|deadline|provider_busy)", answer)
    assert refused, f"{answer}\n{pods['gateway'].tail()}\n{pods['worker'].tail()}"
    # The admin role reaches the gateway by its Service, with the key over plain HTTP.
    pushed = hpns("app", "test-push", "--platform", "android_rn-v2", input=f"{key['key']}\nnobody:s-token\n")
    assert re.search(r"status +FAIL", pushed) and "name provider" in pushed, pushed


def leave(region, pods):
    """A gateway that goes is not ready, and takes what still comes; all end in time."""
    gateway = pods["gateway"]
    url = gateway.said("http://0.0.0.0:8066/version")
    stopped = []
    going = threading.Thread(target=lambda: stopped.append(gateway.stop()))
    going.start()
    time.sleep(1)
    ready, said = gateway.probe("readinessProbe")
    assert not ready and "stopping" in said, said
    assert get(url)[0], "it takes nothing any more while it drains"
    going.join()
    drain = region.chart.config("gateway")["server"]["drain_seconds"]
    status, seconds = stopped[0]
    assert status == 0 and drain <= seconds < drain + 10, f"{status} after {seconds} s"
    for role in ("worker", "admin"):
        status, seconds = pods[role].stop()
        assert status == 0, f"{role}: {status} after {seconds} s\n{pods[role].tail()}"
    return f"a gateway was gone {stopped[0][1]:.1f} s after SIGTERM"
