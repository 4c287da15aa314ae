"""A provider whose WebRTC is real: webrtc_provider.py SIMULATOR. Prints its port, and serves until it is killed.

aiortc answers offers. A call is one of the simulator's; its events pass between that and the browser's data channel.
`/heard` tells how much of the browser's sound has come.
"""

import asyncio
import json
import socket
import sys
from collections.abc import Callable
from typing import Any

import aiohttp
from aiohttp import web
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, MediaStreamError

SIMULATOR = sys.argv[1]
KEY = {"Authorization": "Bearer sim"}
CALLS = "/v1/realtime/calls"


class Provider:
    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http
        self._peers: list[RTCPeerConnection] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._frames = 0

    async def create(self, request: web.Request) -> web.Response:
        given = await request.post()
        parts = aiohttp.FormData()
        texts = {name: bytes(part).decode() for name, part in given.items()}
        parts.add_field("sdp", texts["sdp"], content_type="application/sdp")
        parts.add_field("session", texts["session"], content_type="application/json")
        async with self._http.post(SIMULATOR + CALLS, data=parts, headers=KEY) as made:
            if made.status != 201:
                return web.Response(status=made.status, body=await made.read(), content_type="application/json")
            where = made.headers["Location"]
        peer = RTCPeerConnection()
        self._peers.append(peer)
        peer.on("track", lambda track: self._spawn(self._hear(track)))
        peer.on("datachannel", lambda channel: self._spawn(self._pass_on(where.rpartition("/")[2], channel)))
        peer.addTrack(AudioStreamTrack())
        await peer.setRemoteDescription(RTCSessionDescription(texts["sdp"], "offer"))
        await peer.setLocalDescription(await peer.createAnswer())
        answer = peer.localDescription.sdp
        return web.Response(status=201, text=answer, content_type="application/sdp", headers={"Location": where})

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hear(self, track: Any) -> None:
        try:
            while await track.recv():
                self._frames += 1
        except MediaStreamError:
            return

    async def _pass_on(self, call: str, channel: Any) -> None:
        said: asyncio.Queue[str] = asyncio.Queue()
        channel.on("message", said.put_nowait)
        async with self._http.ws_connect(f"{SIMULATOR}/v1/realtime?call_id={call}", headers=KEY, max_msg_size=0) as up:

            async def say() -> None:
                while True:
                    await up.send_str(await said.get())

            self._spawn(say())
            await _each_text(up, channel.send)

    async def join(self, request: web.Request) -> web.WebSocketResponse:
        """The gateway's side of a call."""
        down = web.WebSocketResponse(max_msg_size=0)
        async with self._http.ws_connect(SIMULATOR + request.path_qs, headers=KEY, max_msg_size=0) as up:
            await down.prepare(request)

            async def listen() -> None:
                async for message in up:
                    await down.send_str(message.data)
                await down.close(code=up.close_code or 1000)

            listening = asyncio.create_task(listen())
            async for message in down:
                await up.send_str(message.data)
            await up.close()
            await listening
        return down

    async def hang_up(self, request: web.Request) -> web.Response:
        async with self._http.post(SIMULATOR + request.path_qs, headers=KEY) as answer:
            return web.Response(status=answer.status, body=await answer.read())

    async def heard(self, _: web.Request) -> web.Response:
        return web.json_response({"frames": self._frames})


async def _each_text(socket: aiohttp.ClientWebSocketResponse, take: Callable[[str], None]) -> None:
    async for message in socket:
        take(message.data)


async def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    async with aiohttp.ClientSession() as http:
        provider = Provider(http)
        app = web.Application(client_max_size=2**20)
        app.add_routes(
            [
                web.post(CALLS, provider.create),
                web.post(CALLS + "/{id}/hangup", provider.hang_up),
                web.get("/v1/realtime", provider.join),
                web.get("/heard", provider.heard),
            ]
        )
        runner = web.AppRunner(app)
        await runner.setup()
        await web.SockSite(runner, listener).start()
        print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
        await asyncio.Event().wait()


asyncio.run(main())
