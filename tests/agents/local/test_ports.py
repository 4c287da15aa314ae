"""The journal of a session in one process."""

from voicebus.agents.local.ports import MAX_BYTES, MAX_RECORDS, LocalJournal
from voicebus.contracts.journal import ErrorRecorded, EventType
from voicebus.engine.outputs import Record
from voicebus.ports import SessionRef

SESSION = SessionRef("s", 1)


def record(seq: int, message: str = "No.") -> Record:
    return Record(seq, EventType.ERROR, ErrorRecorded(code="odd", message=message, source="model", at_ms=0))


def test_records_are_kept_in_order_and_shown_as_the_native_face_shows_them() -> None:
    journal = LocalJournal()
    journal.append(SESSION, record(1), 7)
    journal.append(SESSION, record(2, "Never."), 8)
    first, second = journal.records()
    assert first == {
        "type": "error", "seq": 1, "at": 7, "code": "odd", "message": "No.", "source": "model", "at_ms": 0,
    }  # fmt: skip
    assert (second["seq"], second["message"]) == (2, "Never.")


def test_beyond_so_many_records_the_oldest_go() -> None:
    journal = LocalJournal()
    for seq in range(MAX_RECORDS + 5):
        journal.append(SESSION, record(seq), 0)
    assert [kept["seq"] for kept in journal.records()] == [*range(5, MAX_RECORDS + 5)]


def test_beyond_so_many_bytes_of_text_the_oldest_go() -> None:
    journal = LocalJournal()
    for seq in range(40):
        journal.append(SESSION, record(seq, "x" * (MAX_BYTES // 10)), 0)
    assert [kept["seq"] for kept in journal.records()] == [*range(31, 40)]
    journal.append(SESSION, record(40, "x" * (MAX_BYTES + 1)), 0)
    assert [kept["seq"] for kept in journal.records()] == [40], "the newest stays, whatever its size"
