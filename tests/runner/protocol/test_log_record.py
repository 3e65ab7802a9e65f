"""Log records."""

from hypothesis import given
from hypothesis import strategies as st

from runner.protocol.log_record import Level, LogRecord, decode_log, encode_log

RECORDS = st.builds(
    LogRecord,
    st.text(),
    st.sampled_from(Level),
    st.integers(0, 2**52),
    st.text(),
    st.lists(st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(), max_size=3),
    st.text(),
    st.dictionaries(st.sampled_from(["Runner", "Sequence"]), st.fixed_dictionaries({"id": st.text()})),
)


@given(RECORDS)
def test_what_is_written_is_read(record: LogRecord):
    line = encode_log(record)
    assert line.count(b"\n") == 1
    assert decode_log(line) == record


@given(st.binary())
def test_any_line_is_a_record(line: bytes):
    assert isinstance(decode_log(line), LogRecord)


def test_a_plain_traceback_line_is_a_message():
    assert decode_log(b'  File "main.py", line 3\n').msg == '  File "main.py", line 3'


def test_data_that_is_not_json_does_not_lose_the_record():
    circle: list[object] = []
    circle.append(circle)
    assert b"<object object" in encode_log(LogRecord("m", data=[object()]))
    assert b"[[...]]" in encode_log(LogRecord("m", data=[circle]))
