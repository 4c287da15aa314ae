"""`GET /`: where the interfaces are. Open to everyone who reaches the port, so it says nothing of what is deployed."""

from typing import Final

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Voicebus gateway</title>
<h1>Voicebus session gateway</h1>
<p>Talk to an agent with <code>voicebus call</code>, or with any client of the OpenAI Realtime protocol at
<code>/v1/realtime</code>.</p>
<ul>
<li><a href="/docs">/docs</a>: the HTTP interface</li>
<li><a href="/v1/agents">/v1/agents</a>, <a href="/v1/tools">/v1/tools</a>: what is deployed</li>
<li><a href="/v1/sessions">/v1/sessions</a>: the conversations</li>
</ul></html>
"""


def routes() -> APIRouter:
    router = APIRouter()

    @router.get("/", response_class=HTMLResponse, include_in_schema=False)
    def page() -> str:
        return PAGE

    return router
