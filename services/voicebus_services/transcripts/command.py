"""`voicebus transcripts`: the group of commands; each is in a module of its own."""

import typer

from voicebus_services.transcripts import (
    erase_command,
    export_command,
    retention_command,
    search_command,
    show_command,
)

app = typer.Typer(
    name="transcripts",
    help="Search, show, export and erase what was said.",
    no_args_is_help=True,
    add_completion=False,
)
app.command("search")(search_command.search)
app.command("erase")(erase_command.erase)
app.command("retention")(retention_command.retention)
app.command("show")(show_command.show)
app.command("export")(export_command.export)
