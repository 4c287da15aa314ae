"""The spans of one session beside its own: its model's responses, its tool calls and its checks, as children of it.

A call's and a check's span goes with its entry to the worker, whose own spans are its children; it ends with what the
session takes as the answer.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from opentelemetry import trace

from voicebus.engine import wire
from voicebus.engine.inputs import (
    CheckRefused,
    Input,
    LinkLost,
    ModelEvent,
    ToolResultArrived,
    ToolStartedArrived,
    VerdictArrived,
)
from voicebus.engine.outputs import CancelTool, DispatchCheck, DispatchTool, Output, SendModel
from voicebus.ports import SessionRef
from voicebus.telemetry.tracing import below, is_traced, span_context, traceparent_of, tracer

Handle = Callable[[Input, float], Sequence[Output]]

# Keys of responses, beside those of calls and checks; the first is of one that was asked for and has not begun.
_RESPONSE: Final = "response "
_ASKED: Final = _RESPONSE

# What is never answered is ended as such, the oldest first.
_OPEN: Final = 1_024


class SessionTrace:
    """Makes the spans; `ref` names the session's own."""

    def __init__(self, ref: SessionRef) -> None:
        self._ref = ref
        self._below = below(span_context(ref.traceparent))
        # By the id of the call or the check, or the key of the response.
        self._open: OrderedDict[str, trace.Span] = OrderedDict()
        self._tracer = tracer()
        self._heard: Mapping[type, Callable[[Any], None]] = {
            ModelEvent: self._model_event,
            LinkLost: self._link_lost,
            ToolStartedArrived: self._started,
            ToolResultArrived: self._result,
            VerdictArrived: self._verdict,
            CheckRefused: self._refused,
        }
        self._said: Mapping[type, Callable[[Any], None]] = {SendModel: self._sent, CancelTool: self._cancelled}

    def sends(self, output: DispatchTool | DispatchCheck) -> SessionRef:
        """The session as an entry for workers names it: with the span of this call or check."""
        name, key, attributes = _described(output)
        local = isinstance(output, DispatchTool) and output.local
        span = self._begin(name, key, attributes, trace.SpanKind.INTERNAL if local else trace.SpanKind.PRODUCER)
        return SessionRef(self._ref.id, self._ref.epoch, traceparent_of(span.get_span_context()))

    def around(self, handle: Handle) -> Handle:
        """The engine's `handle`, whose inputs and outputs are looked at."""

        def traced(event: Input, now: float) -> Sequence[Output]:
            if (heard := self._heard.get(type(event))) is not None:
                heard(event)
            outputs = handle(event, now)
            for output in outputs:
                if (said := self._said.get(type(output))) is not None:
                    said(output)
            return outputs

        return traced

    def close(self) -> None:
        """The session is over: nobody waits for what is open."""
        for key in list(self._open):
            self._end(key, "session over", good=True)

    # --- what comes and goes --------------------------------------------------------------------------

    def _model_event(self, event: ModelEvent) -> None:
        kind = event.event.get("type")
        if kind == "response.created":
            response = wire.mapping(event.event, "response")
            span = self._open.pop(_ASKED, None)
            key = _RESPONSE + wire.text(response, "id")
            if span is None:
                self._begin("model response", key, {}, trace.SpanKind.CLIENT)
            else:
                self._open[key] = span
        elif kind == "response.done":
            self._response_done(wire.mapping(event.event, "response"))

    def _response_done(self, response: Mapping[str, Any]) -> None:
        name, status = wire.text(response, "id"), wire.text(response, "status")
        key = _RESPONSE + name
        span = self._open.get(key)
        if span is not None:
            span.set_attribute("gen_ai.response.id", name)
            usage = wire.mapping(response, "usage")
            for direction in ("input", "output"):
                tokens = usage.get(f"{direction}_tokens")
                if isinstance(tokens, int):
                    span.set_attribute(f"gen_ai.usage.{direction}_tokens", tokens)
            self._end(key, status or "completed", good=status not in ("failed", "incomplete"))

    def _link_lost(self, _: LinkLost) -> None:
        for key in [key for key in self._open if key.startswith(_RESPONSE)]:
            self._end(key, "lost", good=False)

    def _started(self, event: ToolStartedArrived) -> None:
        span = self._open.get(event.started.call_id)
        if span is not None:
            span.add_event("started", {"worker": event.started.worker, "attempt": event.started.attempt})

    def _result(self, event: ToolResultArrived) -> None:
        outcome = event.result.outcome.value
        self._end(event.result.call_id, outcome, good=outcome == "ok")

    def _verdict(self, event: VerdictArrived) -> None:
        verdict = event.verdict
        for older in verdict.supersedes:
            self._end(older, "superseded", good=True)
        span = self._open.get(verdict.check_id)
        if span is not None:
            tripped = [result.name for result in verdict.results if result.tripped]
            if tripped:
                span.set_attribute("voicebus.tripped", tripped)
            failed = any(result.error is not None for result in verdict.results)
            outcome = "tripped" if tripped else "error" if failed else "passed"
            if tripped or not verdict.pending:
                self._end(verdict.check_id, outcome, good=not failed)

    def _refused(self, event: CheckRefused) -> None:
        self._end(event.check_id, "unavailable", good=False)

    def _sent(self, output: SendModel) -> None:
        if output.event.get("type") == "response.create" and not output.spare:
            self._begin("model response", _ASKED, {}, trace.SpanKind.CLIENT)

    def _cancelled(self, output: CancelTool) -> None:
        self._end(output.call_id, "cancelled", good=True)

    # --- spans ----------------------------------------------------------------------------------------

    def _begin(self, name: str, key: str, attributes: Mapping[str, Any], kind: trace.SpanKind) -> trace.Span:
        self._end(key, "sent again", good=True)
        span = self._tracer.start_span(name, context=self._below, kind=kind, attributes=attributes)
        self._open[key] = span
        if len(self._open) > _OPEN:
            self._end(next(iter(self._open)), "unanswered", good=False)
        return span

    def _end(self, key: str, outcome: str, *, good: bool) -> None:
        span = self._open.pop(key, None)
        if span is not None:
            span.set_attribute("voicebus.outcome", outcome)
            if not good:
                span.set_status(trace.StatusCode.ERROR, outcome)
            span.end()


def trace_of(ref: SessionRef) -> SessionTrace | None:
    """What traces this session; None where it is not traced."""
    context = span_context(ref.traceparent) if is_traced() else None
    return None if context is None or not context.trace_flags.sampled else SessionTrace(ref)


def _described(output: DispatchTool | DispatchCheck) -> tuple[str, str, dict[str, Any]]:
    if isinstance(output, DispatchTool):
        attributes = {"voicebus.tool": output.tool, "voicebus.queue": output.queue, "voicebus.call": output.call_id}
        return f"tool call {output.tool}", output.call_id, attributes
    attributes = {"voicebus.guardrails": ",".join(output.guardrails), "voicebus.stage": output.stage}
    return "guardrail check", output.check_id, {**attributes, "voicebus.final": output.final}
