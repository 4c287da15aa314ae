"""Model link: whether the model is reached, what it complains of, and what it costs."""

from dashboards.panels import Bars, Dashboard, Limits, Lines, Query, Row
from dashboards.queries import highest, in_range, of, quantile, rate


def dashboard() -> Dashboard:
    return Dashboard(
        "voicebus-model",
        "Model link",
        "Connections to the model: how soon they stand, why they are replaced, its errors, and the tokens it counts.",
        [_link(), _errors(), _tokens()],
    )


def _link() -> Row:
    return Row(
        "Connections",
        [
            Lines(
                "Connected after",
                "From dialling to the model's first event.",
                [
                    Query(quantile(share, "voicebus_model_connect_seconds"), name)
                    for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
                ],
                "s",
                Limits(1, 3),
            ),
            Lines(
                "Replaced",
                "Attempts to replace the model's socket, a second. renewal and expired are the ordinary ends of "
                "its sessions.",
                [Query(rate("voicebus_model_reconnects_total", by="cause"), "{{cause}}")],
                "ops",
                alerts=("VoicebusModelReconnects",),
                stacked=True,
            ),
            Lines(
                "Resting addresses",
                "1 while a model's address is not dialled, as it failed five times in a row.",
                [Query(highest("voicebus_model_circuit_open", by="address"), "{{address}}")],
                limits=Limits(1, 1),
                alerts=("VoicebusModelCircuitOpen",),
            ),
        ],
    )


def _errors() -> Row:
    return Row(
        "Errors",
        [
            Lines(
                "Errors",
                "Error events and failures of the link, a second, by the model's code.",
                [Query(rate("voicebus_model_errors_total", by="code"), "{{code}}")],
                "ops",
                Limits(0.1, 1),
                ("VoicebusModelErrors",),
                stacked=True,
            ),
            Bars(
                "Errors in the time shown",
                "By the model's code.",
                [Query(in_range("voicebus_model_errors_total", by="code"), "{{code}}")],
                alerts=("VoicebusModelErrors",),
            ),
            Lines(
                "Dead air",
                "Seconds of overdue answers in a second.",
                [Query(rate("voicebus_dead_air_seconds_total"), "overdue")],
                "s",
                alerts=("VoicebusDeadAir",),
            ),
        ],
    )


def _tokens() -> Row:
    tokens = "voicebus_model_tokens_total"
    inputs = rate(tokens, 'direction="input"')
    cached = rate(tokens, 'direction="input"', 'cached="true"')
    return Row(
        "Tokens",
        [
            Lines(
                "Tokens",
                "Tokens a second by the model's own count.",
                [
                    Query(
                        rate(tokens, by="direction, modality, cached"), "{{direction}} {{modality}}, cached {{cached}}"
                    )
                ],
                "ops",
                stacked=True,
            ),
            Lines(
                "Tokens of a conversation and minute",
                "Tokens a minute over the conversations that are held now.",
                [
                    Query(
                        f"60 * {rate(tokens, by='direction')} / on () group_left "
                        f"clamp_min(sum({of('release:voicebus_sessions_active:sum')}), 1)",
                        "{{direction}}",
                    )
                ],
            ),
            Lines(
                "Input from the cache",
                "The share of input tokens that the model had in its cache: they cost a fraction.",
                [Query(f"({cached} or vector(0)) / {inputs}", "cached")],
                "percentunit",
            ),
        ],
    )
