"""Every service under a user of Redis of its own, of `voicebus contract acl`: nothing it needs is denied it."""

import json
from pathlib import Path
from typing import Any

import pytest
import redis
from typer.testing import CliRunner

from support.callers import calling, fetch, transcript
from support.cluster import running_cluster
from support.servers import RedisServer
from support.waiting import wait_until
from voicebus_services.cli import app

pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("cluster")]

SERVICES = ("gateway", "tool-worker", "guardrail-worker", "transcript-archiver")


def made_users(folder: Path, server: RedisServer) -> dict[str, dict[str, str]]:
    """Makes the users as the page says; returns each service's variables."""
    made = CliRunner().invoke(app, ["contract", "acl", str(folder), "--stream-prefix", "calls"])
    assert made.exit_code == 0, made.output
    with redis.Redis(port=server.port) as client:
        for line in (folder / "users.acl").read_text().splitlines():
            user, name, *rules = line.split()
            assert user == "user"
            client.execute_command("ACL", "SETUSER", name, *rules)
    return {
        service: {
            "VOICEBUS_REDIS_USERNAME": f"calls-{service}",
            "VOICEBUS_REDIS_PASSWORD_FILE": str(folder / "passwords" / f"calls-{service}"),
        }
        for service in SERVICES
    }


def denied(server: RedisServer) -> list[dict[str, Any]]:
    """What Redis refused to anybody."""
    with redis.Redis(port=server.port, decode_responses=True) as client:
        rows: Any = client.execute_command("ACL", "LOG", 100)
    entries = [row if isinstance(row, dict) else dict(zip(row[::2], row[1::2], strict=True)) for row in rows]
    return [{key: entry[key] for key in ("username", "reason", "context", "object")} for entry in entries]


async def test_calls_work_and_end_and_nothing_is_denied(tmp_path: Path) -> None:
    with RedisServer() as server:
        users = made_users(tmp_path / "acl", server)
        async with running_cluster(
            redis_url=server.url,
            database_url=f"sqlite:///{tmp_path / 'v.db'}",
            stream_prefix="calls",
            targets=("support.hotline",),
            own=users,
            resume_grace="1s",
        ) as cluster:
            async with calling(cluster.gateway.url) as caller:
                await caller.says('where [[call: where {"word": "here"}]]')
                await caller.hears("here from process")
                await caller.types("say it [[say: the forbidden word]]")
                await caller.until(lambda each: each.of("guardrail_tripped"), "the guardrail")
                await caller.hangs_up()
            archived = await transcript(cluster.archiver.url, caller.session)
            assert archived["gaps"] == []
            assert "tool_call" in {item["type"] for item in archived["items"]}

            # A worker and a gateway that die: their work is taken over, their sessions ended.
            started = tmp_path / "started"
            async with calling(cluster.gateway.url) as lost:
                arguments = json.dumps({"seconds": 60, "started": str(started)})
                await lost.types(f"wait [[call: slow {arguments}]]")
                await wait_until(started.exists, description="the tool to run")
                doomed = cluster.services["tool-worker"][0]
                await cluster.start("tool-worker")
                await cluster.kill(doomed)
                await lost.until(lambda each: each.of("tool_end"), "the call's end", timeout=30)
                await cluster.kill(cluster.gateway)

            async def interrupted() -> Any:
                found = await fetch(f"{cluster.archiver.url}/v1/transcripts/{lost.session}")
                return found is not None and found["status"] == "interrupted"

            await wait_until(interrupted, description="the archiver to end the session", timeout=60)
        assert denied(server) == []


def test_a_user_reaches_nothing_beyond_its_service(tmp_path: Path) -> None:
    with RedisServer() as server:
        users = made_users(tmp_path / "acl", server)

        def refused(service: str, *command: str) -> bool:
            password = Path(users[service]["VOICEBUS_REDIS_PASSWORD_FILE"]).read_text()
            with redis.Redis(port=server.port, username=f"calls-{service}", password=password) as client:
                assert client.ping()
                try:
                    client.execute_command(*command)
                except redis.exceptions.NoPermissionError:
                    return True
                except redis.exceptions.ResponseError:
                    pass  # permitted, and an error for another reason
                return False

        for service in SERVICES:
            for command in ("FLUSHALL", "CONFIG GET *", "ACL LIST", "KEYS *", "SCAN 0", "CLIENT LIST", "SHUTDOWN"):
                assert refused(service, *command.split()), (service, command)
            assert refused(service, "GET", "others:config")
        assert not refused("gateway", "XLEN", "calls:events:{0}")
        assert refused("tool-worker", "XLEN", "calls:events:{0}")
        assert refused("tool-worker", "HSET", "calls:session:{0}:s1:state", "epoch", "9")
        # What other tenants say is in the sessions' state: a worker sees of a session only that it has ended.
        assert refused("tool-worker", "HGETALL", "calls:session:{0}:s1:state")
        assert not refused("tool-worker", "EXISTS", "calls:session:{0}:s1:ended")
        assert refused("tool-worker", "SET", "calls:session:{0}:s1:ended", "1")
        assert refused("guardrail-worker", "XADD", "calls:tools:{default}", "*", "a", "b")
        assert refused("gateway", "SET", "calls:archiver:{0}:lease", "me")
        assert refused("gateway", "HSET", "calls:worker:{w}", "a", "b")


def test_an_autoscaler_counts_and_reads_nothing(tmp_path: Path) -> None:
    with RedisServer() as server:
        made_users(tmp_path / "acl", server)
        stream = "calls:tools:{default}"
        with redis.Redis(port=server.port) as client:
            client.xgroup_create(stream, "workers", id="0", mkstream=True)
            client.xadd(stream, {"data": "an order"})
        password = (tmp_path / "acl" / "passwords" / "calls-autoscaler").read_text()
        with redis.Redis(port=server.port, username="calls-autoscaler", password=password) as client:
            # What KEDA's redis-streams trigger runs.
            assert client.xinfo_groups(stream)[0]["lag"] == 1
            assert client.xpending(stream, "workers")["pending"] == 0
            assert client.xlen(stream) == 1
            for command in (
                ["XRANGE", stream, "-", "+"],
                ["XADD", stream, "*", "a", "b"],
                ["XLEN", "calls:events:{0}"],
            ):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    client.execute_command(*command)
