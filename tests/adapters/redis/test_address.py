"""What the query of an address of Redis may say."""

import pytest

from voicebus.adapters.redis.address import OptionError, options_of
from voicebus.adapters.redis.client import connect
from voicebus.adapters.redis.opening import open_client
from voicebus.errors import SettingsError


@pytest.mark.parametrize("mode", ["none", "CERT_NONE", "None"])
@pytest.mark.parametrize("scheme", ["rediss", "rediss+cluster", "rediss+sentinel"])
def test_whether_a_certificate_is_verified_is_said_in_redis_or_pythons_words(scheme: str, mode: str) -> None:
    query = f"ssl_cert_reqs={mode}&ssl_check_hostname=False&ssl_ca_certs=%2Fetc%2Fca.pem"
    assert options_of(scheme, query) == {
        "ssl_cert_reqs": "none", "ssl_check_hostname": False, "ssl_ca_certs": "/etc/ca.pem",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("scheme", "query", "why"),
    [
        ("redis", "ssl_cert_reqs=none", r"'ssl_cert_reqs' is not known there \(TLS is an address that begins with red"),
        ("redis+cluster", "ssl_ca_certs=/ca", r"'ssl_ca_certs' is not known there \(TLS .*\); none may be given"),
        ("rediss", "socket_timeout=1", "'socket_timeout' is not known there; ssl_ca_certs, .* may be given"),
        ("rediss+cluster", "sentinel_password=x", "'sentinel_password' is not known there"),
        ("rediss+cluster", "ssl_password=x", "'ssl_password' is not known there; ssl_ca_certs, .* may be given"),
        ("rediss", "ssl_cert_reqs=maybe", "'ssl_cert_reqs' may be none, optional or required"),
        ("rediss", "ssl_check_hostname=perhaps", "'ssl_check_hostname' may be true or false"),
        ("redis", "db=first", "'db' may be a whole number"),
    ],
)
async def test_an_option_that_is_not_known_is_named_before_anything_is_dialled(
    scheme: str, query: str, why: str
) -> None:
    with pytest.raises(OptionError, match=why):
        options_of(scheme, query)
    with pytest.raises(SettingsError, match=rf"^VOICEBUS_REDIS_URL: {scheme.replace('+', '.')}://host/m: .*{why}"):
        await connect(f"{scheme}://user:hunter2@host/m?{query}")


TLS = "ssl_ca_certs=ca&ssl_certfile=pem&ssl_keyfile=key&ssl_cert_reqs=none&ssl_check_hostname=no"
SINGLE = "db=1&username=u&password=p&client_name=c&health_check_interval=5"


@pytest.mark.parametrize(
    ("scheme", "query"),
    [
        ("redis", SINGLE),
        ("unix", SINGLE),
        ("rediss", f"{TLS}&ssl_password=x&{SINGLE}"),
        ("redis+sentinel", "sentinel_password=x"),
        ("rediss+sentinel", f"{TLS}&ssl_password=x&sentinel_password=x"),
        ("rediss+cluster", TLS),
    ],
)
async def test_every_option_that_is_known_is_one_of_the_client(scheme: str, query: str) -> None:
    client, sentinels = open_client(f"{scheme}://host/m?{query}")
    for one in (client, *sentinels):
        if "+cluster" not in scheme:
            one.connection_pool.make_connection()
        await one.aclose()


def test_a_piece_of_a_password_is_not_taken_for_an_option() -> None:
    with pytest.raises(ValueError, match="no query"):
        options_of("redis", "ter2=x@localhost:6379")


async def test_a_user_with_an_at_sign_and_a_database_by_option_are_taken(redis_url: str) -> None:
    scheme, _, rest = redis_url.partition("://")
    host = rest.partition("/")[0].rpartition("@")[2]
    async with await connect(redis_url) as bus:
        await bus.call("ACL", "SETUSER", "calls@example", "on", ">p@ss", "~*", "&*", "+@all")
        try:
            address = f"{scheme}://calls%40example:p%40ss@{host}?db=3&client_name=seen"
            async with await connect(address) as theirs:
                assert await theirs.call("ACL", "WHOAMI") == "calls@example"
                assert " db=3 " in await theirs.call("CLIENT", "INFO")
        finally:
            await bus.call("ACL", "DELUSER", "calls@example")
